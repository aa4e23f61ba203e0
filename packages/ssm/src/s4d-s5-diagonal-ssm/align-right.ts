import { gatherRows } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/**
 * Moves rows whose padding stands on the right to the right end, with zeros before them.
 *
 * @param x [B, T, D], zero at padding
 * @param lengths [B] valid tokens per row
 */
export function alignRight(x: tf.Tensor, lengths: tf.Tensor): tf.Tensor {
  const [batch, length, width] = x.shape as [number, number, number];
  const time = tf.reshape(tf.range(0, length, 1, 'float32'), [1, length]);
  // token t comes from t - (T - count); what would come from before the row is its last place, which is padding then
  const source = tf.sub(time, tf.sub(length, tf.reshape(tf.cast(lengths, 'float32'), [batch, 1])));
  const inside = tf.where(tf.less(source, 0), tf.fill([batch, length], length - 1), source);
  const base = tf.mul(tf.reshape(tf.range(0, batch, 1, 'float32'), [batch, 1]), length);
  const flat = tf.cast(tf.reshape(tf.add(inside, base), [batch * length]), 'int32');
  return tf.reshape(gatherRows({ table: tf.reshape(x, [batch * length, width]), indices: flat }), x.shape);
}
