import * as tf from '@tensorflow/tfjs-core';
import { stopGradient, topK as bestOf } from '@seqloom/core';

/** The chosen slots of each token: H k of them, head after head. */
export interface ChosenSlots {
  /** int32 [N, H k], 0 to n^2 - 1 */
  readonly indices: tf.Tensor2D;
  /** [N, H k], through which gradients reach queries and keys */
  readonly weights: tf.Tensor2D;
}

// entry [r, columns[r, i]] of a table of [R, k] int32, as [R, k]
function pick(table: tf.Tensor, columns: tf.Tensor): tf.Tensor {
  const [rows, width] = table.shape as [number, number];
  const starts = tf.reshape(tf.mul(tf.range(0, rows, 1, 'int32'), tf.scalar(width, 'int32')), [rows, 1]);
  const places = tf.reshape(tf.add(columns, starts), [columns.size, 1]);
  return tf.reshape(tf.gatherND(tf.reshape(table, [table.size]), places), columns.shape);
}

/**
 * The k best of n^2 slots per head, found among k^2: the best sum of two scores is a sum of two that are among the k best of their halves.
 *
 * @param query [N, H, K]
 * @param keys [H, 2, n, K / 2]
 */
export function selectSlots(query: tf.Tensor3D, keys: tf.Tensor4D, topK: number, weighting: 'softmax' | 'relu'): ChosenSlots {
  const [count, heads] = query.shape;
  const [, , halfKeys, half] = keys.shape;
  const rows = heads * count;
  const byHead = tf.transpose(query, [1, 0, 2]); // [H, N, K]
  const halves = [0, 1].map((side) => {
    const part = tf.slice(byHead, [0, 0, side * half], [heads, count, half]);
    const own = tf.reshape(tf.slice(keys, [0, side, 0, 0], [heads, 1, halfKeys, half]), [heads, halfKeys, half]);
    const { values, indices } = bestOf({ input: tf.matMul(part, own, false, true) }, { k: topK });
    return { values: tf.reshape(values, [rows, topK]), indices: tf.reshape(stopGradient(indices), [rows, topK]) };
  }) as [{ values: tf.Tensor; indices: tf.Tensor }, { values: tf.Tensor; indices: tf.Tensor }];
  const sums = tf.add(tf.reshape(halves[0].values, [rows, topK, 1]), tf.reshape(halves[1].values, [rows, 1, topK]));
  const best = bestOf({ input: tf.reshape(sums, [rows, topK * topK]) }, { k: topK });
  const places = stopGradient(best.indices);
  // column a k + b of the sums belongs to the a-th best of the first half and the b-th of the second
  const a = tf.cast(tf.floor(tf.div(tf.add(tf.cast(places, 'float32'), 0.5), topK)), 'int32');
  const b = tf.sub(places, tf.mul(a, tf.scalar(topK, 'int32')));
  const slots = tf.add(tf.mul(pick(halves[0].indices, a), tf.scalar(halfKeys, 'int32')), pick(halves[1].indices, b));
  const weights = weighting === 'softmax' ? tf.softmax(best.values) : tf.relu(best.values);
  const byToken = (x: tf.Tensor): tf.Tensor2D =>
    tf.reshape(tf.transpose(tf.reshape(x, [heads, count, topK]), [1, 0, 2]), [count, heads * topK]) as tf.Tensor2D;
  // tfjs-webgpu transposes neither integers nor what was just cast; slots up to 2^24 are exact in float32
  const numbers = tf.add(tf.cast(slots, 'float32'), 0.5);
  return { indices: tf.cast(tf.floor(byToken(numbers)), 'int32'), weights: byToken(weights) };
}
