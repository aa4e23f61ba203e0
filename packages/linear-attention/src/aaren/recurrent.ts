import { linearScan } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import type { Leaves, Partial } from './parallel.ts';

/**
 * The recurrent form: `u_t = u_{t-1} exp(m_{t-1} - m_t) + exp(s_t - m_t)`, w alike, token by token on the `LinearScan` kernel.
 *
 * The running maxima m come first: they are exact, and no exponent is above 0, whatever the logits are.
 */
export function recurrentForm({ logits, values, before }: Leaves): Partial {
  const [batch, length, heads, width] = values.shape as [number, number, number, number];
  const maxima = runningMaximum(tf.concat([before.maximum, logits], 1));
  const [earlier, maximum] = [0, 1].map((from) => tf.slice(maxima, [0, from, 0, 0], [batch, length, heads, 1])) as [tf.Tensor, tf.Tensor];
  const decay = tf.add(tf.zerosLike(values), tf.exp(tf.sub(earlier, maximum)));
  const input = tf.mul(values, tf.exp(tf.sub(logits, maximum)));
  const flat = (tensor: tf.Tensor): tf.Tensor => tf.reshape(tensor, [batch, length, heads * width]);
  const { hidden } = linearScan({ decay: flat(decay), input: flat(input), state: tf.reshape(before.sums, [batch, heads * width]) });
  return { maximum, sums: tf.reshape(hidden, [batch, length, heads, width]) };
}

// by doubling, along axis 1
function runningMaximum(x: tf.Tensor): tf.Tensor {
  const [batch, total, heads] = x.shape as [number, number, number];
  let maxima = x;
  for (let reach = 1; reach < total; reach *= 2) {
    const cut = (from: number, size: number): tf.Tensor => tf.slice(maxima, [0, from, 0, 0], [batch, size, heads, 1]);
    maxima = tf.concat([cut(0, reach), tf.maximum(cut(0, total - reach), cut(reach, total - reach))], 1);
  }
  return maxima;
}
