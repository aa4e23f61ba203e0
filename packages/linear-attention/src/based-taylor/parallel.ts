import * as tf from '@tensorflow/tfjs-core';
import { groupRows, ungroupRows, visibilityMask } from '../linear-attention/parallel.ts';
import type { Sums, Visibility } from '../linear-attention/parallel.ts';
import { taylorFeatures } from '../linear-attention/taylor-features.ts';

/** What the parallel form reads. */
export interface TaylorRows {
  /** [B, T, Hq, d] */
  readonly query: tf.Tensor4D;
  /** [B, S, H, d] */
  readonly key: tf.Tensor4D;
  /** [B, S, H, V]; the last channel is 1 where a normaliser is carried */
  readonly value: tf.Tensor4D;
  /** [B, S], 1 for tokens */
  readonly mask?: tf.Tensor2D | undefined;
  /** [B, H, F, V] */
  readonly memory?: tf.Tensor4D | undefined;
}

/** The parallel form: `O = (1 + U + U^2 / 2) V` over the visible keys, `U = Q K^T / sqrt(d)`; no features but for the memory. */
export function parallelForm({ query, key, value, mask, memory }: TaylorRows, visible: Visibility, symmetric: boolean): Sums {
  return tf.tidy(() => {
    const [, length, queryHeads, width] = query.shape;
    const [batch, keys, heads] = key.shape;
    const q = groupRows(query, heads); // [B, H, T * G, d]
    const k = tf.transpose(key, [0, 2, 1, 3]);
    const v = tf.transpose(value, [0, 2, 1, 3]);
    const u = tf.div(tf.matMul(q, k, false, true), Math.sqrt(width));
    let kernel: tf.Tensor = tf.add(tf.add(u, 1), tf.mul(tf.square(u), 0.5)); // [B, H, T * G, S]
    if (visible !== 'all') kernel = tf.mul(kernel, visibilityMask(visible, length, keys, queryHeads / heads));
    if (mask) kernel = tf.mul(kernel, tf.reshape(mask, [batch, 1, 1, keys]));
    let rows: tf.Tensor = tf.matMul(kernel, v);
    if (memory) rows = tf.add(rows, tf.matMul(taylorFeatures(q, symmetric), memory));
    const features = taylorFeatures(k, symmetric); // [B, H, S, F]
    const written = tf.matMul(mask ? tf.mul(features, tf.reshape(mask, [batch, 1, keys, 1])) : features, v, true, false);
    return { output: ungroupRows(rows as tf.Tensor4D, length), memory: (memory ? tf.add(memory, written) : written) as tf.Tensor4D };
  });
}
