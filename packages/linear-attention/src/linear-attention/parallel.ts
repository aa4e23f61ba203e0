import * as tf from '@tensorflow/tfjs-core';

/** Features of queries, features of keys, values: what every form works on. */
export interface Features {
  /** [B, T, Hq, F], already scaled */
  readonly query: tf.Tensor4D;
  /** [B, S, H, F], zero at masked tokens */
  readonly key: tf.Tensor4D;
  /** [B, S, H, V]; the last channel is 1 where a normaliser is carried */
  readonly value: tf.Tensor4D;
  /** sums over earlier tokens [B, H, F, V]; absent: none */
  readonly memory?: tf.Tensor4D | undefined;
}

/** Sums [B, T, Hq, V] and the memory after the last key [B, H, F, V]. */
export interface Sums {
  readonly output: tf.Tensor4D;
  readonly memory: tf.Tensor4D;
}

/** Which keys a query sees: all of them, those up to its own place, or a number per query, [B, T]. */
export type Visibility = 'all' | 'causal' | tf.Tensor2D;

/** [B, T, H * G, F] -> [B, H, T * G, F], so that the G query heads of a state head are rows of one product. */
export function groupRows(query: tf.Tensor4D, heads: number): tf.Tensor4D {
  const [batch, length, queryHeads, width] = query.shape;
  const group = queryHeads / heads;
  const split = tf.reshape(query, [batch, length, heads, group * width]);
  return tf.reshape(tf.transpose(split, [0, 2, 1, 3]), [batch, heads, length * group, width]);
}

/** [B, H, T * G, V] -> [B, T, H * G, V], the way back. */
export function ungroupRows(rows: tf.Tensor4D, length: number): tf.Tensor4D {
  const [batch, heads, groupedRows, width] = rows.shape;
  const group = groupedRows / length;
  const split = tf.reshape(rows, [batch, heads, length, group * width]);
  return tf.reshape(tf.transpose(split, [0, 2, 1, 3]), [batch, length, heads * group, width]);
}

/** 1 where the query of a row sees a key, broadcastable against scores [B, H, T * G, S]. */
export function visibilityMask(visible: 'causal' | tf.Tensor2D, length: number, keys: number, group: number): tf.Tensor4D {
  return tf.tidy(() => {
    const places = tf.range(0, keys, 1, 'float32'); // [S]
    const counts = visible === 'causal' ? tf.range(1, length + 1, 1, 'float32') : visible;
    const rows = visible === 'causal' ? 1 : visible.shape[0];
    const perRow = tf.tile(tf.reshape(counts, [rows, 1, length, 1]), [1, 1, 1, group]);
    return tf.cast(tf.less(places, tf.reshape(perRow, [rows, 1, length * group, 1])), 'float32') as tf.Tensor4D;
  });
}

/**
 * The parallel form: noncausal `O = Q (K^T V)`, causal `O = tril(Q K^T) V`, plus what the memory holds.
 *
 * Quadratic in T when causal; the form to read, and the fastest for a handful of tokens.
 */
export function parallelForm({ query, key, value, memory }: Features, visible: Visibility): Sums {
  return tf.tidy(() => {
    const [, length, queryHeads] = query.shape;
    const [, keys, heads] = key.shape;
    const q = groupRows(query, heads);
    const k = tf.transpose(key, [0, 2, 1, 3]); // [B, H, S, F]
    const v = tf.transpose(value, [0, 2, 1, 3]); // [B, H, S, V]
    const written = tf.matMul(k, v, true, false); // [B, H, F, V]
    const after = memory ? tf.add(memory, written) : written;
    let rows: tf.Tensor;
    if (visible === 'all') {
      rows = tf.matMul(q, after);
    } else {
      const mask = visibilityMask(visible, length, keys, queryHeads / heads);
      rows = tf.matMul(tf.mul(tf.matMul(q, k, false, true), mask), v);
      if (memory) rows = tf.add(rows, tf.matMul(q, memory));
    }
    return { output: ungroupRows(rows as tf.Tensor4D, length), memory: after as tf.Tensor4D };
  });
}
