import type * as tf from '@tensorflow/tfjs-core';
import { runWgsl } from './run.ts';

const source = `
fn kernel(group: vec3<u32>, local: vec3<u32>, lane: u32) {
  let column = group.x * 64u + lane;
  if (column >= uniforms.columns) { return; }
  var sum = 0.0;
  for (var row = 0u; row < uniforms.rows; row++) { sum += values[row * uniforms.columns + column]; }
  total[column] = sum;
}
`;

/**
 * Second pass of a sum over rows: adds up the partial sums of the first pass's workgroups, in their order.
 *
 * One dispatch, 64 columns per workgroup: R loads and R additions per column for R rows, no workgroup memory.
 *
 * @param values partial sums [R, ...shape]
 * @param shape shape of the result
 */
export function columnSum(backend: tf.KernelBackend, values: tf.TensorInfo, shape: readonly number[]): tf.TensorInfo {
  const rows = values.shape[0]!;
  const columns = shape.reduce((size, extent) => size * extent, 1);
  return runWgsl(backend, {
    name: 'ColumnSum',
    source,
    workgroupSize: [64],
    workgroups: [Math.ceil(columns / 64)],
    inputs: { values },
    outputs: { total: { shape } },
    integers: { rows, columns },
  }).total;
}
