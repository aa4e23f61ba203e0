import type * as tf from '@tensorflow/tfjs-core';

/** What calls asked of the GPU. */
export interface GpuCounts {
  /** compute dispatches */
  readonly dispatches: number;
  /** submits to the queue */
  readonly submits: number;
  /** calls of `mapAsync`: numbers read back */
  readonly maps: number;
  /** calls of `copyBufferToBuffer` */
  readonly copies: number;
  /** most bytes of buffers held at once beyond what was held before, outputs included */
  readonly peakBytes: number;
  /** bytes of the largest of those buffers */
  readonly largestBuffer: number;
}

/** The parts of tfjs-webgpu's backend that are watched. */
export interface WatchedBackend extends tf.KernelBackend {
  readonly device: GPUDevice;
  readonly bufferManager: {
    acquireBuffer(size: number, ...rest: unknown[]): GPUBuffer;
    releaseBuffer(buffer: GPUBuffer, reuse?: boolean): void;
  };
  readonly commandEncoder: GPUCommandEncoder | null;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

type Methods = Record<string, (...values: never[]) => unknown>;

/** Puts functions around methods of objects; returns the way back. */
function wrap(
  ...changes: readonly [object: object, method: string, around: (original: (...values: never[]) => unknown) => unknown][]
): () => void {
  const undo = changes.map(([object, method, around]) => {
    const methods = object as Methods;
    const [own, original] = [Object.getOwnPropertyDescriptor(object, method), methods[method]!];
    const changed = around(original);
    Object.defineProperty(object, method, { value: changed, configurable: true, writable: true });
    return () => {
      if (own) Object.defineProperty(object, method, own);
      else Reflect.deleteProperty(object, method);
    };
  });
  return () => undo.toReversed().forEach((step) => step());
}

/** Submits what tfjs has encoded so far. */
export function flush(backend: WatchedBackend): void {
  if (!backend.commandEncoder) return;
  backend.endComputePassEncoder();
  backend.submitQueue();
}

/**
 * Counts what a run asks of the GPU, by functions around the methods of WebGPU's objects while it lasts; what was encoded before is submitted
 * first, what the run has encoded at its end, and both programs on the device are seen: tfjs, whose buffers come from a pool, and gpu.js.
 *
 * @param backend tfjs's backend `webgpu`, in Node or in a page
 */
export async function countGpu(backend: WatchedBackend, run: () => void | Promise<void>): Promise<GpuCounts> {
  flush(backend);
  const counts = { dispatches: 0, submits: 0, maps: 0, copies: 0, peakBytes: 0, largestBuffer: 0 };
  const sizes = new Map<GPUBuffer, number>();
  let held = 0;
  // the pool makes and destroys buffers by itself: seen from outside it lends them
  let inPool = false;
  const take = (buffer: GPUBuffer): void => {
    sizes.set(buffer, buffer.size);
    held += buffer.size;
    counts.peakBytes = Math.max(counts.peakBytes, held);
    counts.largestBuffer = Math.max(counts.largestBuffer, buffer.size);
  };
  const giveBack = (buffer: GPUBuffer): void => {
    // what was held before does not count
    held -= sizes.get(buffer) ?? 0;
    sizes.delete(buffer);
  };
  const counted = (name: 'dispatches' | 'submits' | 'maps' | 'copies') => (original: (...values: never[]) => unknown) =>
    function count(this: unknown, ...values: never[]): unknown {
      counts[name]++;
      return original.apply(this, values);
    };
  const pooled = (after: (values: never[], result: unknown) => void) => (original: (...values: never[]) => unknown) =>
    function pool(this: unknown, ...values: never[]): unknown {
      const outer = inPool;
      inPool = true;
      try {
        const result = original.apply(this, values);
        after(values, result);
        return result;
      } finally {
        inPool = outer;
      }
    };
  const unwrap = wrap(
    [GPUComputePassEncoder.prototype, 'dispatchWorkgroups', counted('dispatches')],
    [GPUQueue.prototype, 'submit', counted('submits')],
    [GPUBuffer.prototype, 'mapAsync', counted('maps')],
    [GPUCommandEncoder.prototype, 'copyBufferToBuffer', counted('copies')],
    [backend.bufferManager, 'acquireBuffer', pooled((_values, result) => take(result as GPUBuffer))],
    [backend.bufferManager, 'releaseBuffer', pooled(([buffer]) => giveBack(buffer as GPUBuffer))],
    [
      GPUDevice.prototype,
      'createBuffer',
      (original) =>
        function create(this: unknown, ...values: never[]) {
          const buffer = original.apply(this, values) as GPUBuffer;
          if (!inPool) take(buffer);
          return buffer;
        },
    ],
    [
      GPUBuffer.prototype,
      'destroy',
      (original) =>
        function destroy(this: GPUBuffer, ...values: never[]) {
          if (!inPool) giveBack(this);
          return original.apply(this, values);
        },
    ],
  );
  try {
    await run();
    flush(backend);
  } finally {
    unwrap();
  }
  return counts;
}
