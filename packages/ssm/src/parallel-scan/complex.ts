import * as tf from '@tensorflow/tfjs-core';

/** A tensor of numbers as its parts: [real], or [real, imaginary]. */
export type Parts = readonly tf.Tensor[];

/** The product of two real or two complex tensors, broadcasting. */
export function product(left: Parts, right: Parts): tf.Tensor[] {
  const [a, b] = left as [tf.Tensor, tf.Tensor?];
  const [c, d] = right as [tf.Tensor, tf.Tensor?];
  if (!b || !d) return [tf.mul(a, c)];
  return [tf.sub(tf.mul(a, c), tf.mul(b, d)), tf.add(tf.mul(a, d), tf.mul(b, c))];
}

/** The sum of two real or two complex tensors, broadcasting. */
export function total(left: Parts, right: Parts): tf.Tensor[] {
  return left.map((part, index) => tf.add(part, right[index]!));
}
