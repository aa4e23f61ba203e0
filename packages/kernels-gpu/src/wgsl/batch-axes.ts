import * as tf from '@tensorflow/tfjs-core';

/** `batchOfA(batch)` and `batchOfB(batch)`: which matrix of each operand a batch of the output reads, see `batchStrides`. */
export const batchAxes = `
fn batchOfA(batch: u32) -> u32 {
  let last = batch / uniforms.extent3;
  let third = last / uniforms.extent2;
  return (third / uniforms.extent1) * uniforms.a0 + (third % uniforms.extent1) * uniforms.a1
    + (last % uniforms.extent2) * uniforms.a2 + (batch % uniforms.extent3) * uniforms.a3;
}
fn batchOfB(batch: u32) -> u32 {
  let last = batch / uniforms.extent3;
  let third = last / uniforms.extent2;
  return (third / uniforms.extent1) * uniforms.b0 + (third % uniforms.extent1) * uniforms.b1
    + (last % uniforms.extent2) * uniforms.b2 + (batch % uniforms.extent3) * uniforms.b3;
}
`;

interface Axis {
  readonly extent: number;
  readonly a: number;
  readonly b: number;
}

// strides, in matrices, of `shape` within the shape it is broadcast to: 0 along the axes where it repeats
function stridesWithin(shape: readonly number[], to: readonly number[]): number[] {
  const missing = to.length - shape.length;
  const strides = to.map(() => 0);
  let step = 1;
  for (let axis = to.length - 1; axis >= missing; axis--) {
    const extent = shape[axis - missing]!;
    if (extent > 1) strides[axis] = step;
    step *= extent;
  }
  return strides;
}

/**
 * Sizes for `batchAxes`: the batch axes with neighbours joined that both operands walk through as one, which leaves a few.
 *
 * @returns the integers, or null when more than four axes alternate between operands that repeat
 */
export function batchStrides(aBatch: readonly number[], bBatch: readonly number[]): Record<string, number> | null {
  const shape = tf.broadcast_util.assertAndGetBroadcastShape([...aBatch], [...bBatch]);
  const [a, b] = [stridesWithin(aBatch, shape), stridesWithin(bBatch, shape)];
  const axes: Axis[] = [];
  for (const [index, extent] of shape.entries()) {
    const axis = { extent, a: a[index]!, b: b[index]! };
    const before = axes.at(-1);
    if (extent === 1) continue;
    if (before && before.a === axis.a * extent && before.b === axis.b * extent) {
      axes[axes.length - 1] = { ...axis, extent: before.extent * extent };
    } else axes.push(axis);
  }
  if (axes.length > 4) return null;
  while (axes.length < 4) axes.unshift({ extent: 1, a: 0, b: 0 });
  const sizes: Record<string, number> = {};
  for (const [index, axis] of axes.entries()) {
    sizes[`a${index}`] = axis.a;
    sizes[`b${index}`] = axis.b;
    if (index > 0) sizes[`extent${index}`] = Math.max(1, axis.extent);
  }
  return sizes;
}
