import * as tf from '@tensorflow/tfjs-core';

/**
 * `tf.cumsum` that is right on every backend, also backwards: tfjs-webgpu compiles the length of an axis into its program for a reverse sum but
 * not into the program's name, so that the second length gets the program of the first. Here a reverse sum is the sum of the reversed axis.
 *
 * @param input any shape
 * @param axis which axis, from 0 up
 * @param exclusive whether an element's own term is left out
 * @param reverse whether the sum runs from the last element to the first
 */
export function cumulativeSum(input: tf.Tensor, axis: number, exclusive: boolean, reverse: boolean): tf.Tensor {
  if (!reverse) return tf.cumsum(input, axis, exclusive);
  return tf.tidy(() => tf.reverse(tf.cumsum(tf.reverse(input, axis), axis, exclusive), axis));
}
