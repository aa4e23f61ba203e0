import * as tf from '@tensorflow/tfjs-core';
import { topK as bestOf } from '@seqloom/core';
import { affine, attendHeads } from '../dense.ts';
import type { Lm2ReadParameters } from './parameters.ts';

/**
 * Tokens read the bank: `R = softmax(Q K^T / sqrt(d)) V`, gated, `sigma(R W_out) R`.
 *
 * @param tokens E [B, T, D]
 * @param memory M [B, N, D]
 * @param topK slots per token and head whose weight counts, the others' is dropped; null: all
 * @returns [B, T, D]
 */
export function readBank(
  tokens: tf.Tensor3D,
  memory: tf.Tensor3D,
  parameters: Lm2ReadParameters,
  { heads, topK }: { readonly heads: number; readonly topK: number | null },
): tf.Tensor3D {
  const query = affine(tokens, parameters.query);
  const key = affine(memory, parameters.key);
  const value = affine(memory, parameters.value);
  const read = topK === null ? attendHeads(query, key, value, heads) : attendBest(query, key, value, { heads, topK, causal: false });
  return tf.mul(read, tf.sigmoid(affine(read, parameters.gate))) as tf.Tensor3D;
}

/** Attention whose weights are all formed: the largest k per row are kept, without dividing anew; causal: row i sees slots 0 to i. */
export function attendBest(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  { heads, topK, causal }: { readonly heads: number; readonly topK: number | null; readonly causal: boolean },
): tf.Tensor3D {
  const [batch, length, width] = query.shape as [number, number, number];
  const slots = key.shape[1]!;
  const cut = (x: tf.Tensor): tf.Tensor =>
    tf.reshape(tf.transpose(tf.reshape(x, [batch, x.shape[1]!, heads, width / heads]), [0, 2, 1, 3]), [batch * heads, x.shape[1]!, -1]);
  let scores = tf.div(tf.matMul(cut(query), cut(key), false, true), Math.sqrt(width / heads)); // [B * H, T, N]
  if (causal) {
    const later = tf.greater(tf.reshape(tf.range(0, slots), [1, slots]), tf.reshape(tf.range(0, length), [length, 1]));
    scores = tf.add(scores, tf.mul(tf.cast(later, 'float32'), -1e30));
  }
  let weights = tf.softmax(scores);
  if (topK !== null && topK < slots) {
    const { indices } = bestOf({ input: weights }, { k: topK });
    weights = tf.mul(weights, tf.sum(tf.cast(tf.oneHot(indices, slots), 'float32'), -2));
  }
  const read = tf.reshape(tf.matMul(weights, cut(value)), [batch, heads, length, width / heads]);
  return tf.reshape(tf.transpose(read, [0, 2, 1, 3]), [batch, length, width]);
}
