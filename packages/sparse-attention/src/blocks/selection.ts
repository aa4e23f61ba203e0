import * as tf from '@tensorflow/tfjs-core';
import { tidy, topKKernel } from '@seqloom/core';

// beyond any score, yet finite: infinities would meet in sums
const FAR = 1e30;

/**
 * Products of query heads with the keys of their groups, `s_hij = q_hi k_g(h)j`.
 *
 * @param query [B, T, H, D]
 * @param key [B, N, G, D]; query head h reads key head floor(h G / H)
 * @returns [B, H, T, N]
 */
export function groupedScores(query: tf.Tensor, key: tf.Tensor): tf.Tensor4D {
  return tidy(() => {
    const [batch, length, heads, width] = query.shape as [number, number, number, number];
    const [, count, groups] = key.shape as [number, number, number];
    const rows = tf.reshape(tf.transpose(query, [0, 2, 1, 3]), [batch, groups, (heads / groups) * length, width]);
    const scores = tf.matMul(rows, tf.transpose(key, [0, 2, 3, 1])); // [B, G, r T, N]
    return tf.reshape(scores, [batch, heads, length, count]);
  });
}

/** Blocks that a query may, must or must not choose; all broadcast to the scores [..., N]. */
export interface Choice {
  /** 1 for blocks that may be chosen, else 0 */
  readonly visible: tf.Tensor;
  /** above 0 for visible blocks that are chosen before all others, the largest numbers (at most 9) first; default none */
  readonly forced?: tf.Tensor;
  /** most blocks to choose */
  readonly count: number;
}

/**
 * The blocks with the largest scores; of equal ones those with the lower index.
 *
 * @param scores [..., N], finite and detached: a choice has no gradient
 * @param choice which blocks are visible or forced, and how many to take
 * @returns whole numbers in float32, which every backend can transpose, [..., min(count, N)]; -1 where fewer blocks are visible
 */
export function selectBlocks(scores: tf.Tensor, { visible, forced, count }: Choice): tf.Tensor {
  return tidy(() => {
    const hidden = tf.mul(tf.sub(visible, 1), 10 * FAR);
    const ranked = tf.add(scores, forced ? tf.add(tf.mul(forced, FAR), hidden) : hidden);
    const { values, indices } = topKKernel.run({ input: ranked }, { k: Math.min(count, scores.shape.at(-1)!) });
    const kept = tf.cast(tf.greater(values, -FAR / 2), 'float32');
    return tf.sub(tf.mul(tf.add(tf.cast(indices, 'float32'), 1), kept), 1);
  });
}

/**
 * Which blocks lie wholly before the block of a query.
 *
 * @param own block of each query, float32 of any shape [..., T]
 * @param count N
 * @returns float32 [..., T, N], 1 where n < own
 */
export function earlierBlocks(own: tf.Tensor, count: number): tf.Tensor {
  return tidy(() => tf.clipByValue(tf.sub(tf.expandDims(own, -1), tf.range(0, count, 1, 'float32')), 0, 1));
}
