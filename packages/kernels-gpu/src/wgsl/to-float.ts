import type * as tf from '@tensorflow/tfjs-core';
import type { GpuBackend } from './device.ts';
import { runWgsl, sizeOf } from './run.ts';

const source = `
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
    source,
    workgroupSize: [256],
    workgroups: [Math.ceil(size / 256)],
    inputs: { whole: { dataId, shape, dtype: 'int32' } },
    outputs: { result: { shape } },
    integers: { size },
  }).result;
}
