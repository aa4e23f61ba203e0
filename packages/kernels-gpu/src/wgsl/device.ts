import { fail } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import type { Pipeline } from './pipeline.ts';
import { tuningOf } from './tuning.ts';
import type { GpuTuningInUse } from './tuning.ts';

/** The parts of tfjs-backend-webgpu that the kernels rely on, private ones among them. */
export interface GpuBackend extends tf.KernelBackend {
  readonly device: GPUDevice;
  readonly tensorMap: {
    get(dataId: object): { readonly dtype: tf.DataType; readonly values?: tf.TypedArray | null; readonly resource?: GPUBuffer };
  };
  readonly bufferManager: { readonly numBytesUsed: number; acquireBuffer(size: number, usage: number): GPUBuffer };
  readonly uniformPendingDisposal: GPUBuffer[];
  readonly commandQueueOwnedIds: WeakSet<object>;
  readonly supportTimestampQuery: boolean;
  readonly querySetCount: number;
  querySet: GPUQuerySet | null;
  activeTimers: { name: string; query: Promise<number> }[] | null | undefined;
  commandEncoder: GPUCommandEncoder | null;
  computePassEncoder: GPUComputePassEncoder | null;
  dispatchCountInPass: number;
  makeTensorInfo(shape: number[], dtype: tf.DataType, values?: tf.TypedArray): tf.TensorInfo;
  uploadToGPU(dataId: object): void;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
  getQueryTime(): Promise<number>;
}

/** What the kernels keep per backend. */
export interface GpuState {
  readonly device: GPUDevice;
  /** bound in the place of tensors that are absent or empty */
  readonly nothing: GPUBuffer;
  readonly pipelines: Map<string, Pipeline>;
  /** bytes in use when the pass under way began */
  bytesBefore: number;
  /** why the device can no longer be used */
  lost: string | undefined;
  /** what the device said against a shader */
  refused: string | undefined;
  /** what the device said when it had no memory for a buffer */
  exhausted: string | undefined;
}

const states = new WeakMap<object, GpuState>();

/**
 * The state of one backend, made at its first kernel call.
 *
 * @throws SeqLoomError when its device is lost, has refused a shader, or was out of memory
 */
export function deviceOf(backend: GpuBackend, kernel: string): GpuState {
  let state = states.get(backend);
  if (!state) {
    const { device } = backend;
    const made: GpuState = {
      device,
      nothing: device.createBuffer({ size: 16, usage: GPUBufferUsage.STORAGE }),
      pipelines: new Map(),
      bytesBefore: 0,
      lost: undefined,
      refused: undefined,
      exhausted: undefined,
    };
    // the device says so some time after the buffer was asked for; kernels that used it ran on nothing
    device.addEventListener('uncapturederror', ({ error }) => {
      if (error.constructor.name === 'GPUOutOfMemoryError') made.exhausted ??= error.message.split('\n')[0]!;
    });
    void device.lost.then(({ reason, message }) => {
      made.lost = `${reason}${message ? `: ${message}` : ''}`;
    });
    states.set(backend, made);
    state = made;
  }
  if (state.lost !== undefined) {
    fail({
      mechanism: `kernels-gpu (${kernel})`,
      argument: 'device',
      wanted: 'a GPU device that works',
      given: `one that is lost (${state.lost})`,
      remedy: "Call setupBackend('webgpu') for a new device; tensors that lived on the old one are gone.",
    });
  }
  if (state.refused !== undefined) {
    const given = state.refused;
    state.refused = undefined;
    fail({
      mechanism: 'kernels-gpu',
      argument: 'shader',
      wanted: 'one that this device accepts',
      given,
      remedy: "Update the GPU's driver, or leave the kernels out with setupBackend('webgpu', { kernels: [] }).",
    });
  }
  if (state.exhausted !== undefined) {
    const given = state.exhausted;
    // reported once: memory that is freed in the meantime serves again
    state.exhausted = undefined;
    fail({
      mechanism: `kernels-gpu (${kernel})`,
      argument: 'memory',
      wanted: 'a GPU with memory for every tensor',
      given: `one that is out of memory (${given}); results since then are not valid`,
      remedy: 'Dispose tensors, use smaller batches, shorter sequences or accumulation, and go on from the last checkpoint.',
    });
  }
  return state;
}

/** The tuning that kernels of a backend are written with. */
export function tuningFor(backend: tf.KernelBackend): GpuTuningInUse {
  return tuningOf((backend as GpuBackend).device);
}
