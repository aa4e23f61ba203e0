import { fail } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { deviceOf } from './device.ts';
import type { GpuBackend, GpuState } from './device.ts';
import { compile } from './pipeline.ts';
import type { Pipeline } from './pipeline.ts';

/** Shape and type of a tensor that a shader writes. */
export interface WgslOutput {
  readonly shape: readonly number[];
  /** `float32` when left out */
  readonly dtype?: 'float32' | 'int32';
}

/** One dispatch of a shader. */
export interface WgslCall<Out extends string> {
  /** names the shader in labels and errors; one name stands for one `source` */
  readonly name: string;
  /**
   * WGSL with `fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32)`: the workgroup's place in `workgroups`, the invocation's place in the
   * workgroup, and the same flat. Bindings, uniforms and the entry point are written around it, see `compile`.
   */
  readonly source: string;
  /** invocations of a workgroup along x, y, z */
  readonly workgroupSize: readonly [x: number, y?: number, z?: number];
  /** number of workgroups along x, y, z; any count, the device's limit per dimension is folded away */
  readonly workgroups: readonly [x: number, y?: number, z?: number];
  /** tensors to be read, `array<f32>` or `array<i32>` under their names; for an absent one `has_<name>` is false and its array may not be read */
  readonly inputs: Readonly<Record<string, tf.TensorInfo | undefined>>;
  /** tensors that are written in place, of which the caller alone knows */
  readonly updates?: Readonly<Record<string, tf.TensorInfo>>;
  /** tensors to be written, in the same manner; what is not written holds garbage */
  readonly outputs: Readonly<Record<Out, WgslOutput | undefined>>;
  /** names of inputs and outputs that the shader sees as `array<vec4<f32>>` */
  readonly vec4?: readonly string[];
  /** `uniforms.<name>: u32`: sizes, which may differ from call to call without a new pipeline */
  readonly integers?: Readonly<Record<string, number>>;
  /** `uniforms.<name>: f32` */
  readonly floats?: Readonly<Record<string, number>>;
  /** whether the shader uses subgroup operations, for which it finds `subgroupSize`; only on devices that have them */
  readonly subgroups?: boolean;
  /** whether the shader uses the type `f16`; only on devices with the feature `shader-f16` */
  readonly f16?: boolean;
  /** `const <name>`: every set of values is a pipeline of its own */
  readonly constants?: Readonly<Record<string, number | boolean>>;
}

// a pass that has made so many bytes is submitted, however few its dispatches
const BYTES_PER_SUBMIT = 2 ** 28;

type Outputs<O> = { [K in keyof O]: O[K] extends WgslOutput ? tf.TensorInfo : tf.TensorInfo | undefined };

/**
 * Runs one shader on the device of tfjs-webgpu, in tfjs's own compute pass: no submit and no copy of its own.
 *
 * @param backend tfjs's webgpu backend
 * @param call the shader, its tensors and sizes
 * @returns new tensors by output name, owned by the caller; `undefined` where the call said so
 * @throws SeqLoomError when the device is lost, a shader was refused before, or a tensor exceeds what the device can bind
 */
export function runWgsl<O extends Readonly<Record<string, WgslOutput | undefined>>>(
  backend: tf.KernelBackend,
  call: WgslCall<keyof O & string> & { readonly outputs: O },
): Outputs<O> {
  const gpu = backend as GpuBackend;
  const state = deviceOf(gpu, call.name);
  const made = new Map<string, tf.TensorInfo>();
  const spare: tf.TensorInfo[] = [];
  const buffers: GPUBuffer[] = [];
  const touched: object[] = [];
  for (const [name, tensor] of Object.entries(call.inputs)) {
    if (!tensor || sizeOf(tensor.shape) === 0) buffers.push(state.nothing);
    else {
      checkSize(state, call.name, name, tensor.shape);
      let read = tensor;
      if (tensor.dtype === 'float32' && gpu.tensorMap.get(tensor.dataId).dtype !== 'float32') {
        read = toFloat(gpu, tensor);
        spare.push(read);
      }
      gpu.uploadToGPU(read.dataId);
      touched.push(read.dataId);
      buffers.push(gpu.tensorMap.get(read.dataId).resource!);
    }
  }
  for (const tensor of Object.values(call.updates ?? {})) {
    touched.push(tensor.dataId);
    buffers.push(gpu.tensorMap.get(tensor.dataId).resource!);
  }
  for (const [name, output] of Object.entries<WgslOutput | undefined>(call.outputs)) {
    const empty = output && sizeOf(output.shape) === 0;
    if (output) {
      checkSize(state, call.name, name, output.shape);
      made.set(name, newTensor(gpu, output, empty));
    }
    let bound = made.get(name);
    if (!bound || empty) {
      // every writable binding needs a buffer of its own
      bound = newTensor(gpu, { shape: [4] });
      spare.push(bound);
    }
    gpu.uploadToGPU(bound.dataId);
    touched.push(bound.dataId);
    buffers.push(gpu.tensorMap.get(bound.dataId).resource!);
  }
  const groups = [call.workgroups[0], call.workgroups[1] ?? 1, call.workgroups[2] ?? 1] as const;
  if (groups.every((count) => count > 0)) {
    const pipeline = compile(state, call);
    buffers.push(uniformBuffer(gpu, state, call, groups));
    encode(gpu, state, pipeline, buffers, touched, groups[0] * groups[1] * groups[2]);
  }
  for (const tensor of spare) gpu.disposeData(tensor.dataId, true);
  return Object.fromEntries(made) as Outputs<O>;
}

/** Frees a tensor between two passes of one kernel; its buffer is used again only behind the work that was encoded so far. */
export function release(backend: tf.KernelBackend, ...tensors: readonly (tf.TensorInfo | undefined)[]): void {
  for (const tensor of tensors) if (tensor) backend.disposeData(tensor.dataId, true);
}

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, extent) => size * extent, 1);
}

const toFloatSource = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 256u + lane;
  if (place < uniforms.size) { result[place] = f32(whole[place]); }
}
`;

/**
 * A float32 tensor of whole numbers or booleans; tfjs's cast only renames them, so that its float32 tensor holds whole numbers.
 *
 * One dispatch, none where the numbers are still on the host.
 */
export function toFloat(backend: tf.KernelBackend, { dataId, shape }: tf.TensorInfo): tf.TensorInfo {
  const gpu = backend as GpuBackend;
  const { values } = gpu.tensorMap.get(dataId);
  if (values) return gpu.makeTensorInfo([...shape], 'float32', Float32Array.from(values));
  const size = sizeOf(shape);
  return runWgsl(backend, {
    name: 'ToFloat',
    source: toFloatSource,
    workgroupSize: [256],
    workgroups: [Math.ceil(size / 256)],
    inputs: { whole: { dataId, shape, dtype: 'int32' } },
    outputs: { result: { shape } },
    integers: { size },
  }).result;
}

function newTensor(gpu: GpuBackend, { shape, dtype = 'float32' }: WgslOutput, empty = false): tf.TensorInfo {
  return gpu.makeTensorInfo([...shape], dtype, empty ? (dtype === 'int32' ? new Int32Array(0) : new Float32Array(0)) : undefined);
}

function checkSize({ device }: GpuState, kernel: string, name: string, shape: readonly number[]): void {
  const limit = device.limits.maxStorageBufferBindingSize;
  if (4 * sizeOf(shape) <= limit) return;
  fail({
    mechanism: `kernels-gpu (${kernel})`,
    argument: name,
    wanted: `at most ${limit} bytes, which is what this GPU device can bind`,
    given: `${4 * sizeOf(shape)} bytes, shape [${shape.join(', ')}]`,
    remedy: 'Use smaller batches or shorter sequences.',
  });
}

/** Sizes and settings in the order that `compile` declares them. */
function uniformBuffer(
  gpu: GpuBackend,
  { device }: GpuState,
  { integers = {}, floats = {} }: WgslCall<string>,
  groups: readonly [number, number, number],
): GPUBuffer {
  const whole = [...groups, ...Object.values(integers)];
  const real = [Infinity, NaN, ...Object.values(floats)];
  // few different sizes, so that tfjs's pool finds one
  const data = new ArrayBuffer(Math.ceil((4 * (whole.length + real.length)) / 64) * 64);
  new Uint32Array(data, 0, whole.length).set(whole);
  new Float32Array(data, 4 * whole.length, real.length).set(real);
  const buffer = gpu.bufferManager.acquireBuffer(data.byteLength, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  device.queue.writeBuffer(buffer, 0, data);
  gpu.uniformPendingDisposal.push(buffer);
  return buffer;
}

/** Adds the dispatch to tfjs's compute pass, as tfjs does with its own programs. */
function encode(
  gpu: GpuBackend,
  state: GpuState,
  pipeline: Pipeline,
  buffers: readonly GPUBuffer[],
  touched: readonly object[],
  count: number,
): void {
  const { device } = state;
  const { numBytesUsed } = gpu.bufferManager;
  if (gpu.dispatchCountInPass === 0) state.bytesBefore = numBytesUsed;
  const bindGroup = device.createBindGroup({
    layout: pipeline.layout,
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  // tfjs keeps the buffers of these until the pass is submitted
  for (const dataId of touched) gpu.commandQueueOwnedIds.add(dataId);
  gpu.ensureCommandEncoderReady();
  const timed = gpu.activeTimers !== undefined && gpu.activeTimers !== null;
  if (timed && gpu.supportTimestampQuery) {
    gpu.endComputePassEncoder();
    gpu.querySet ??= device.createQuerySet({ type: 'timestamp', count: gpu.querySetCount });
    const timestampWrites = { querySet: gpu.querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
    gpu.computePassEncoder = gpu.commandEncoder!.beginComputePass({ timestampWrites });
  } else gpu.computePassEncoder ??= gpu.commandEncoder!.beginComputePass();
  const pass = gpu.computePassEncoder;
  pass.setPipeline(pipeline.pipeline);
  pass.setBindGroup(0, bindGroup);
  pass.dispatchWorkgroups(...fold(count, device.limits.maxComputeWorkgroupsPerDimension));
  gpu.dispatchCountInPass++;
  if (timed) {
    gpu.endComputePassEncoder();
    gpu.activeTimers!.push({ name: pipeline.name, query: gpu.getQueryTime() });
  } else if (
    gpu.dispatchCountInPass >= tf.env().getNumber('WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE') ||
    // buffers of disposed tensors come back only with a submit
    numBytesUsed - state.bytesBefore > BYTES_PER_SUBMIT
  ) {
    gpu.endComputePassEncoder();
    gpu.submitQueue();
  }
}

/** So many workgroups in three dimensions, each within the limit; the shader skips those beyond the count. */
export function fold(count: number, limit: number): [number, number, number] {
  if (count <= limit) return [count, 1, 1];
  const y = Math.ceil(count / limit);
  if (y <= limit) return [Math.ceil(count / y), y, 1];
  const z = Math.ceil(y / limit);
  return [limit, Math.ceil(count / limit / z), z];
}
