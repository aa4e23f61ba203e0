import * as tf from '@tensorflow/tfjs-core';
import type { DualityReads, DualitySteps } from './chunk.ts';

/**
 * The quadratic form: `Y = (L * C B^T) X` with `L_ij = exp(sum of Delta A after j up to i)` for j <= i, and what the memory before it adds.
 *
 * Its memory grows with the square of the length.
 */
export function parallelForm({ drive, logDecay, inputMatrix, outputMatrix, memory }: DualitySteps): DualityReads {
  const [batch, length, heads, width] = drive.shape as [number, number, number, number];
  const [groups, states] = inputMatrix.shape.slice(2) as [number, number];
  const shared = heads / groups;
  const headsFirst = (part: tf.Tensor): tf.Tensor => tf.transpose(part, [0, 2, 1, 3]);
  const values = headsFirst(drive); // [B, H, T, P]
  const [keys, queries] = [headsFirst(inputMatrix), headsFirst(outputMatrix)]; // [B, G, T, N]
  const decay = decayBetween(tf.reshape(tf.transpose(logDecay, [0, 2, 1]), [batch * heads, length])); // [B H, T, T]
  const scores = tf.reshape(tf.matMul(queries, keys, false, true), [batch * groups, 1, length * length]);
  const weights = tf.mul(scores, tf.reshape(decay, [batch * groups, shared, length * length]));
  const inside = tf.matMul(tf.reshape(weights, [batch, heads, length, length]), values);
  // what was there before the first token: exp(sum up to i) h^T C_i
  const fromStart = tf.reshape(tf.exp(tf.cumsum(logDecay, 1)), [batch, length, heads, 1]);
  const before = tf.reshape(memory, [batch, groups, shared, states, width]);
  const columns = tf.reshape(tf.transpose(before, [0, 1, 3, 2, 4]), [batch, groups, states, shared * width]);
  const read = tf.reshape(tf.matMul(queries, columns), [batch, groups, length, shared, width]);
  const outside = tf.reshape(tf.transpose(read, [0, 2, 1, 3, 4]), [batch, length, heads, width]);
  // the last row of the decays carries each token to the end
  const toEnd = tf.reshape(tf.slice(decay, [0, length - 1, 0], [batch * heads, 1, length]), [batch, heads, length, 1]);
  const carried = tf.reshape(tf.mul(values, toEnd), [batch, groups, shared, length, width]);
  const rows = tf.reshape(tf.transpose(carried, [0, 1, 3, 2, 4]), [batch, groups, length, shared * width]);
  const written = tf.reshape(tf.matMul(keys, rows, true, false), [batch, groups, states, shared, width]);
  const kept = tf.mul(memory, tf.reshape(tf.exp(tf.sum(logDecay, 1)), [batch, heads, 1, 1]));
  return {
    output: tf.add(headsFirst(inside), tf.mul(outside, fromStart)),
    memory: tf.add(kept, tf.reshape(tf.transpose(written, [0, 1, 3, 2, 4]), memory.shape)),
  };
}

/** exp(x_{j+1} + ... + x_i) for j <= i and 0 above, [M, T, T]; every exponent is a sum of its own terms, so nothing cancels. */
function decayBetween(logDecay: tf.Tensor): tf.Tensor {
  const [count, length] = logDecay.shape as [number, number];
  const [i, j] = [tf.reshape(tf.range(0, length), [length, 1]), tf.reshape(tf.range(0, length), [1, length])];
  const below = tf.cast(tf.greater(i, j), 'float32');
  const seen = tf.cast(tf.greaterEqual(i, j), 'float32');
  const terms = tf.mul(tf.reshape(logDecay, [count, length, 1]), below); // [M, l, j]: x_l where l > j
  return tf.mul(tf.exp(tf.cumsum(terms, 1)), seen);
}
