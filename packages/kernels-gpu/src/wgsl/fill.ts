import type * as tf from '@tensorflow/tfjs-core';
import { runWgsl, sizeOf } from './run.ts';

const source = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let place = group.x * 256u + lane;
  if (place < uniforms.size) { output[place] = 0.0; }
}
`;

/** A new tensor of zeros, in one dispatch. */
export function zeros(backend: tf.KernelBackend, shape: readonly number[]): tf.TensorInfo {
  const size = sizeOf(shape);
  return runWgsl(backend, {
    name: 'Zeros',
    source,
    workgroupSize: [256],
    workgroups: [Math.ceil(size / 256)],
    inputs: {},
    outputs: { output: { shape } },
    integers: { size },
  }).output;
}
