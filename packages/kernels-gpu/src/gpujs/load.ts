import { fail } from '@seqloom/core/error';

/** Extents as gpu.js counts them: innermost first. */
export type Extents3 = readonly [x: number, y: number, z: number];

/** A buffer on the device, as gpu.js hands it from kernel to kernel. */
export interface DeviceBuffer {
  readonly buffer: GPUBuffer;
  readonly output: readonly number[];
  readonly context: GpujsContext;
  /** lets go of it; the buffer is destroyed with its last handle */
  delete(): void;
}

/** The device that gpu.js runs on. */
export interface GpujsContext {
  readonly device: GPUDevice;
  readonly isLost: boolean;
}

/** A kernel that gpu.js made. */
export interface GpujsKernel {
  (...values: unknown[]): unknown;
  readonly kernel: { readonly constructor: { readonly mode: string }; readonly fallbackReason: string | null };
  setOutput(output: readonly number[]): GpujsKernel;
  destroy(): void;
}

/** A plan of several kernels that gpu.js made. */
export interface GpujsPipeline {
  (...values: unknown[]): Promise<Record<string, unknown>>;
  readonly backend: string;
  readonly executorKind: string;
  readonly fallbackReason: string | null;
  destroy(): Promise<void>;
}

/** An instance of gpu.js. */
export interface GpujsInstance {
  createKernel(source: string, settings: object): GpujsKernel;
  createPipeline(orchestration: (...handles: never[]) => unknown, settings?: { threads?: boolean }): GpujsPipeline;
  destroy(): Promise<void>;
}

/** The part of gpu.js that the kernels use; its own typings leave out the WebGPU classes. */
export interface GpujsModule {
  GPU: (new (settings: { mode: string }) => GpujsInstance) & { isWebAssemblySupported: boolean; isWebGL2Supported: boolean };
  Input: new (value: Float32Array, size: number[]) => object;
  WebGPUContext: { acquire(): Promise<GpujsContext> };
  WebGPUBufferResult: { prototype: DeviceBuffer };
}

/**
 * Loads the optional package gpu.js.
 *
 * @throws SeqLoomError when it is not installed
 */
export async function loadGpujs(): Promise<GpujsModule> {
  try {
    const module = (await import('gpu.js')) as unknown as { default?: GpujsModule } & GpujsModule;
    return module.default ?? module;
  } catch (cause) {
    return fail({
      mechanism: 'createGpujs',
      argument: 'package gpu.js',
      wanted: 'installed (2.24 or later)',
      given: (cause as Error).message.split('\n')[0]!,
      remedy: 'npm install gpu.js',
      cause,
    });
  }
}
