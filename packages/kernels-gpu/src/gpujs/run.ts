import { fail } from '@seqloom/core/error';
import { acquireDevice } from './acquire-device.ts';
import { isOnDevice, sizeOf } from './array.ts';
import type { GpujsArray, HostArray, View } from './array.ts';
import { loadGpujs } from './load.ts';
import type { DeviceBuffer, Extents3, GpujsContext, GpujsInstance, GpujsKernel, GpujsModule, GpujsPipeline } from './load.ts';
import type { KernelSource, Program, Step, Value, Values } from './program.ts';

/** Where gpu.js computes: plain JavaScript, WebAssembly (SIMD, threads for large outputs), WebGPU, WebGL 2. */
export type GpujsMode = 'cpu' | 'webasm' | 'webgpu' | 'webgl2';

/** Settings of `createGpujs`. */
export interface GpujsSettings {
  /** `webasm` by default, since it runs everywhere */
  readonly mode?: GpujsMode;
  /** device for the mode webgpu; default: that of `setupBackend('webgpu')`, else one that gpu.js requests */
  readonly device?: GPUDevice;
  /** worker threads in the mode webasm; default false, as they outlive a short program */
  readonly threads?: boolean;
  /** plans kept ready, one per kernel and shape; default 64 */
  readonly planLimit?: number;
}

/** Where a kernel's outputs go. */
export interface Placement {
  /** keep the outputs on the device (mode webgpu): nothing is read back, and the caller deletes them with `free` */
  readonly onDevice?: boolean;
}

/** What really ran for one plan. */
export interface PlanReport {
  readonly kernel: string;
  /** the backend that executed, as gpu.js reports it */
  readonly backend: string;
  /** `fused-encoder`: one submit; `fused-sync`, `fused-threaded`: one WebAssembly memory; `generic`: kernel by kernel */
  readonly executor: string;
  readonly reason: string | null;
}

/** One call, described by the kernel's door. */
export interface Call<S> {
  readonly kernel: string;
  readonly inputs: Readonly<Record<string, View | undefined>>;
  readonly settings: S;
  readonly program: Program<S>;
}

/** A plan, and the kernels that it was traced with; it runs on copies of them. */
interface Plan {
  readonly pipeline: GpujsPipeline;
  readonly kernels: ReadonlyMap<string, GpujsKernel>;
}

// loops have their own bounds; gpu.js would stop them after 1000 rounds
const loopLimit = 2 ** 30;

/** An instance of gpu.js in one mode, with the plans of the kernels that ran on it. Made by `createGpujs`. */
export class Gpujs {
  readonly mode: GpujsMode;
  /** the device of the mode webgpu */
  readonly device: GPUDevice | null;
  readonly #module: GpujsModule;
  readonly #instance: GpujsInstance;
  readonly #context: GpujsContext | null;
  readonly #threads: boolean;
  readonly #planLimit: number;
  readonly #plans = new Map<string, Plan>();
  readonly #kernels = new Map<string, GpujsKernel>();
  #tail: Promise<unknown> = Promise.resolve();

  constructor(
    module: GpujsModule,
    instance: GpujsInstance,
    context: GpujsContext | null,
    settings: Required<Omit<GpujsSettings, 'device'>>,
  ) {
    this.mode = settings.mode;
    this.device = context?.device ?? null;
    this.#module = module;
    this.#instance = instance;
    this.#context = context;
    this.#threads = settings.threads;
    this.#planLimit = settings.planLimit;
  }

  /** What really ran, plan by plan. */
  report(): PlanReport[] {
    return [...this.#plans].map(([key, { pipeline }]) => ({
      kernel: key.slice(0, key.indexOf(' ')),
      backend: pipeline.backend,
      executor: pipeline.executorKind,
      reason: pipeline.fallbackReason,
    }));
  }

  /** Wraps a buffer of the same device as an array; the buffer stays the caller's. */
  fromBuffer(buffer: GPUBuffer, shape: readonly number[]): GpujsArray {
    return { shape: [...shape], data: this.#handle(buffer, [sizeOf(shape), 1, 1]) };
  }

  /** Reads an array to the host. */
  async toHost(array: GpujsArray): Promise<HostArray> {
    const { shape, data } = array;
    if (data instanceof Float32Array) return { shape, data };
    return { shape, data: await this.#read(data.buffer, sizeOf(shape)) };
  }

  /** Destroys everything that gpu.js holds for this instance; the device goes on. */
  async destroy(): Promise<void> {
    await this.#tail.catch(() => undefined);
    for (const plan of this.#plans.values()) await destroyPlan(plan);
    this.#plans.clear();
    this.#kernels.clear();
    await this.#instance.destroy();
  }

  /** Runs one kernel; its door (`matmul`, `rmsNorm`, ...) is what users call. */
  async run<S>(call: Call<S>, placement: Placement = {}): Promise<Record<string, Float32Array | DeviceBuffer>> {
    const { onDevice = false } = placement;
    const views = Object.entries(call.inputs).filter((entry): entry is [string, View] => entry[1] !== undefined);
    const resident = views.some(([, { array }]) => isOnDevice(array));
    if ((onDevice || resident) && this.mode !== 'webgpu') {
      fail({
        mechanism: call.kernel,
        argument: onDevice ? 'placement.onDevice' : 'data',
        wanted: onDevice ? 'left out where there is no device memory' : 'Float32Arrays',
        given: `the mode ${this.mode}`,
        remedy: 'Use the mode webgpu.',
      });
    }
    this.#expectDevice(call.kernel);
    for (const [, { extents }] of views) this.#expectFit(call.kernel, extents);
    if (!onDevice && !resident) return this.#runPlan(call, views);
    // one chain at a time: a kernel's output extents are set between its runs
    const done = this.#tail.then(() => this.#runChain(call, views, onDevice));
    this.#tail = done.catch(() => undefined);
    return done;
  }

  /** All steps as one plan of gpu.js: one submit on WebGPU, one shared memory in WebAssembly. */
  async #runPlan<S>(call: Call<S>, views: [string, View][]): Promise<Record<string, Float32Array>> {
    const key = `${call.kernel} ${JSON.stringify([call.settings, views.map(([name, { extents }]) => [name, extents])])}`;
    const plan = this.#plans.get(key) ?? this.#trace(call, views);
    // the plan used last stands last
    this.#plans.delete(key);
    this.#plans.set(key, plan);
    const values = views.map(([, { array, extents }]) => new this.#module.Input(array.data as Float32Array, [...extents]));
    const outputs = await plan.pipeline(...values);
    this.#expectMode(call.kernel, plan.pipeline.backend, plan.pipeline.fallbackReason);
    while (this.#plans.size > this.#planLimit) {
      const [oldest, unused] = this.#plans.entries().next().value!;
      this.#plans.delete(oldest);
      await destroyPlan(unused);
    }
    return Object.fromEntries(Object.entries(outputs).map(([name, nested]) => [name, flatten(nested)]));
  }

  #trace<S>({ kernel: name, program, settings }: Call<S>, views: [string, View][]): Plan {
    const made = new Map<string, GpujsKernel>();
    const kernelFor = ({ kernel, output, values }: Step): GpujsKernel => {
      this.#expectFit(name, output);
      // in a plan, a WebGL kernel of gpu.js keeps the extents of the arrays that it saw first
      const seen = this.mode === 'webgl2' ? values.map((value) => (typeof value === 'number' ? null : value.extents)) : [];
      const key = `${kernel.name} ${JSON.stringify([output, seen])}`;
      if (!made.has(key))
        made.set(key, this.#instance.createKernel(kernel.text, kernelSettings(this.mode, kernel, { output: [...output] })));
      return made.get(key)!;
    };
    const orchestration = (...handles: unknown[]): Record<string, unknown> => {
      const inputs: Values = Object.fromEntries(views.map(([name, { extents }], index) => [name, { handle: handles[index], extents }]));
      const steps = program(inputs, settings);
      let next = steps.next();
      while (!next.done) {
        const { output, values } = next.value;
        next = steps.next({ handle: kernelFor(next.value)(...values.map(raw)), extents: output });
      }
      return Object.fromEntries(Object.entries(next.value).map(([name, { handle }]) => [name, handle]));
    };
    // gpu.js counts the arguments of a plan by the function's length
    Object.defineProperty(orchestration, 'length', { value: views.length });
    return { pipeline: this.#instance.createPipeline(orchestration, { threads: this.#threads }), kernels: made };
  }

  /** Step by step on buffers of the device: a submit per step, nothing read back. */
  async #runChain<S>(call: Call<S>, views: [string, View][], onDevice: boolean): Promise<Record<string, Float32Array | DeviceBuffer>> {
    const made: DeviceBuffer[] = [];
    let kept: readonly unknown[] = [];
    try {
      const inputs: Values = Object.fromEntries(
        views.map(([name, { array, extents }]) => {
          const { data } = array;
          const handle = data instanceof Float32Array ? new this.#module.Input(data, [...extents]) : this.#handle(data.buffer, extents);
          return [name, { handle, extents }];
        }),
      );
      const steps = call.program(inputs, call.settings);
      let next = steps.next();
      while (!next.done) {
        const { kernel, output, values } = next.value;
        this.#expectFit(call.kernel, output);
        const run = this.#kernel(kernel).setOutput([...output]);
        const handle = (await run(...values.map(raw))) as DeviceBuffer;
        this.#expectMode(call.kernel, run.kernel.constructor.mode, run.kernel.fallbackReason);
        made.push(handle);
        next = steps.next({ handle, extents: output });
      }
      const outputs = Object.entries(next.value);
      if (onDevice) {
        kept = outputs.map(([, { handle }]) => handle);
        return Object.fromEntries(outputs.map(([name, { handle }]) => [name, handle as DeviceBuffer]));
      }
      const read = outputs.map(async ([name, { handle, extents }]) => [
        name,
        await this.#read((handle as DeviceBuffer).buffer, sizeOf(extents)),
      ]);
      return Object.fromEntries(await Promise.all(read)) as Record<string, Float32Array>;
    } finally {
      for (const handle of made) if (!kept.includes(handle)) handle.delete();
    }
  }

  #kernel(source: KernelSource): GpujsKernel {
    let kernel = this.#kernels.get(source.name);
    if (!kernel) {
      const settings = { output: [1, 1, 1], pipeline: true, immutable: true, dynamicOutput: true, dynamicArguments: true };
      kernel = this.#instance.createKernel(source.text, kernelSettings(this.mode, source, settings));
      this.#kernels.set(source.name, kernel);
    }
    return kernel;
  }

  /** A handle that owns nothing: the constructor would count it among the buffer's owners, so it is not called. */
  #handle(buffer: GPUBuffer, extents: Extents3): DeviceBuffer {
    const own = { buffer, output: [...extents], componentCount: 1, context: this.#context, type: 'WebGPUBuffer', _deleted: false };
    return Object.assign(Object.create(this.#module.WebGPUBufferResult.prototype) as DeviceBuffer, own, { delete: () => undefined });
  }

  async #read(buffer: GPUBuffer, size: number): Promise<Float32Array> {
    const { device } = this.#context!;
    const bytes = size * 4;
    // 1 and 8: MAP_READ and COPY_DST
    const staging = device.createBuffer({ size: bytes, usage: 1 | 8 });
    try {
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(1);
      return new Float32Array(staging.getMappedRange().slice(0));
    } finally {
      staging.destroy();
    }
  }

  // a plan of gpu.js that does not fit would first be tried kernel by kernel, and then fail with a message of another level
  #expectFit(kernel: string, extents: Extents3): void {
    if (!this.device) return;
    const { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupsPerDimension: most } = this.device.limits;
    const refuse = (argument: string, wanted: string, given: string): never =>
      fail({ mechanism: kernel, argument, wanted, given, remedy: 'Split the call along its batch, its time or its heads.' });
    const [bytes, room] = [sizeOf(extents) * 4, Math.min(maxStorageBufferBindingSize, maxBufferSize)];
    if (bytes > room) refuse('size', `at most ${room} bytes per array on this device`, `${bytes}`);
    // workgroups of 8 x 8 x 1
    const limits = [8 * most, 8 * most, most];
    const beyond = extents.findIndex((extent, axis) => extent > limits[axis]!);
    if (beyond >= 0) refuse(`extent ${'xyz'[beyond]}`, `at most ${limits[beyond]} on this device`, `${extents[beyond]}`);
  }

  #expectDevice(kernel: string): void {
    if (!this.#context?.isLost) return;
    fail({
      mechanism: kernel,
      argument: 'device',
      wanted: 'alive',
      given: 'a device that was lost, with everything on it',
      remedy: "Call setupBackend('webgpu') and createGpujs again.",
    });
  }

  // gpu.js falls back to the mode cpu with no more than a line on the console
  #expectMode(kernel: string, ran: string, reason: string | null): void {
    // all WebGL kernels of gpu.js call themselves gpu
    if (ran === (this.mode === 'webgl2' ? 'gpu' : this.mode)) return;
    fail({
      mechanism: kernel,
      argument: 'mode',
      wanted: `${this.mode}, as asked for`,
      given: `${ran} (${reason ?? 'gpu.js gives no reason'})`,
      remedy: 'Use a mode that this runtime has.',
    });
  }
}

/**
 * Starts gpu.js (an optional package) in one mode.
 *
 * The mode webgpu shares the device of `setupBackend('webgpu')` where that was called, so that tensors and arrays are buffers of one device.
 * The mode webgl2 needs a browser's WebGL 2 context; Node has none.
 *
 * @throws SeqLoomError when gpu.js is not installed or the mode is not available
 */
export async function createGpujs(settings: GpujsSettings = {}): Promise<Gpujs> {
  const { mode = 'webasm', device, threads = false, planLimit = 64 } = settings;
  const module = await loadGpujs();
  const available = { cpu: true, webgpu: true, webasm: module.GPU.isWebAssemblySupported, webgl2: module.GPU.isWebGL2Supported }[mode];
  if (!available) {
    const wanted = 'one that this runtime has (cpu, webasm, webgpu, webgl2)';
    fail({ mechanism: 'createGpujs', argument: 'mode', wanted, given: JSON.stringify(mode), remedy: 'Use the mode webasm or cpu.' });
  }
  const context = mode === 'webgpu' ? await acquireDevice(module, device) : null;
  return new Gpujs(module, new module.GPU({ mode }), context, { mode, threads, planLimit });
}

/** Lets go of outputs that were kept on the device. */
export function free(...arrays: readonly GpujsArray[]): void {
  for (const array of arrays) if (isOnDevice(array)) array.data.delete();
}

function kernelSettings(mode: GpujsMode, source: KernelSource, settings: object): object {
  // between steps, the modes cpu and webgl2 hand on nested arrays and textures: there gpu.js has to find the types itself
  const declared = mode === 'webasm' || mode === 'webgpu' ? { argumentTypes: { ...source.argumentTypes } } : {};
  return { ...declared, loopMaxIterations: loopLimit, precision: 'single', ...settings };
}

function raw(value: Value | number): unknown {
  return typeof value === 'number' ? value : value.handle;
}

/** The numbers of a gpu.js result, whose rows may be views of one buffer. */
function flatten(nested: unknown): Float32Array {
  const rows = (nested as Float32Array[][]).flat();
  const width = rows[0]!.length;
  const flat = new Float32Array(rows.length * width);
  rows.forEach((row, index) => flat.set(row, index * width));
  return flat;
}

async function destroyPlan({ pipeline, kernels }: Plan): Promise<void> {
  await pipeline.destroy();
  for (const kernel of kernels.values()) kernel.destroy();
}
