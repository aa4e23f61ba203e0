import * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention } from '@seqloom/core';
import type { TransformerXlInputs } from './transformer-xl-recurrence.ts';

/** Which keys queries see, beside causality. */
export interface Visibility {
  /** largest distance, null: any */
  readonly reach: number | null;
  /** [B, T], index of the first visible key */
  readonly earliest: tf.Tensor | null;
  /** [B, S], a key's index where it exists, -1 where not */
  readonly keyPositions: tf.Tensor | null;
}

// finite, so that no gradient meets infinity minus infinity; every query sees itself
const HIDDEN = -1e30;

/**
 * The parallel form: all queries at once, the position term by a relative shift instead of one product per pair.
 *
 * @returns [B, T, H, V]
 */
export function parallelForm(inputs: TransformerXlInputs, { reach, earliest, keyPositions }: Visibility): tf.Tensor4D {
  const { query, key, value, contentBias } = inputs;
  const [batch, length] = query.shape as [number, number];
  const keys = key.shape[1]!;
  let bias = positionScores(inputs);
  if (earliest) {
    const before = tf.less(tf.reshape(tf.range(0, keys), [1, 1, keys]), tf.reshape(earliest, [batch, length, 1]));
    bias = tf.add(bias, tf.mul(tf.expandDims(tf.cast(before, 'float32'), 1), HIDDEN));
  }
  const { output } = softmaxAttention(
    { query: tf.add(query, contentBias), key, value, bias, ...(keyPositions ? { keyPositions } : {}) },
    { causal: true, aligned: true, ...(reach === null ? {} : { window: reach + 1 }) },
  );
  return output;
}

/** `(q_i + v) r_(i + M - j) / sqrt(D)` for all i and j, [B, H, T, S]; what stands at j > i + M is finite and has no meaning. */
export function positionScores({ query, key, relative, positionBias }: TransformerXlInputs): tf.Tensor {
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const keys = key.shape[1]!;
  const rows = tf.reshape(tf.transpose(tf.add(query, positionBias), [2, 0, 1, 3]), [heads, batch * length, width]);
  const scores = tf.matMul(rows, tf.transpose(relative, [1, 2, 0])); // [H, B * T, S], column p for distance S - 1 - p
  const cube = tf.reshape(tf.div(scores, Math.sqrt(width)), [heads * batch, length, keys]);
  if (length === 1) return tf.transpose(tf.reshape(cube, [heads, batch, 1, keys]), [1, 0, 2, 3]);
  // one more column shifts each row by one more place once the rows are read as keys + 1 rows of T
  const padded = tf.concat([tf.zeros([heads * batch, length, 1]), cube], 2);
  const shifted = tf.slice(tf.reshape(padded, [heads * batch, keys + 1, length]), [0, 1, 0], [heads * batch, keys, length]);
  return tf.transpose(tf.reshape(shifted, [heads, batch, length, keys]), [1, 0, 2, 3]);
}
