import * as tf from '@tensorflow/tfjs-core';
import { gatherRows } from '../kernel/rows.ts';
import { topKKernel } from '../kernel/top-k.ts';

/** A batch whose rows start with their tokens and end with their padding. */
export interface AlignedRows {
  /** [B, T, D], zero at padding */
  readonly x: tf.Tensor3D;
  /** [B, T] float32, 1 for tokens */
  readonly valid: tf.Tensor2D;
  /** [B] float32 */
  readonly lengths: tf.Tensor1D;
  /** puts rows [B, T, E] back to where they were, zeros at padding */
  readonly restore: (rows: tf.Tensor3D) => tf.Tensor3D;
}

/**
 * Moves the tokens of every row to its start, in order, so that only padding on the right is left.
 *
 * @param x [B, T, D]
 * @param mask [B, T], 1 for tokens and 0 for padding, in any order
 */
export function alignLeft(x: tf.Tensor3D, mask: tf.Tensor2D): AlignedRows {
  const [batch, length, width] = x.shape;
  const keep = tf.cast(tf.notEqual(mask, tf.scalar(0, mask.dtype as 'float32')), 'float32') as tf.Tensor2D;
  const time = tf.range(0, length, 1, 'float32');
  // tokens first, each part in its order: all keys of a row are distinct
  const order = descending(tf.sub(tf.mul(keep, 2 * length), time) as tf.Tensor2D); // [B, T] int32
  const back = descending(tf.neg(tf.cast(order, 'float32')) as tf.Tensor2D);
  const lengths = tf.sum(keep, 1) as tf.Tensor1D;
  const valid = tf.cast(tf.less(tf.reshape(time, [1, length]), tf.reshape(lengths, [batch, 1])), 'float32') as tf.Tensor2D;
  // padding may hold anything, also NaN, so it is replaced rather than multiplied by zero
  const pick = (rows: tf.Tensor3D, index: tf.Tensor2D, live: tf.Tensor2D, channels: number): tf.Tensor3D => {
    const picked = gatherRows({ table: tf.reshape(rows, [batch * length, channels]), indices: flatIndex(index) });
    const cube = tf.reshape(picked, [batch, length, channels]) as tf.Tensor3D;
    return tf.where(tf.cast(tf.reshape(live, [batch, length, 1]), 'bool'), cube, tf.zerosLike(cube)) as tf.Tensor3D;
  };
  return {
    x: pick(x, order, valid, width),
    valid,
    lengths,
    restore: (rows) => pick(rows, back, keep, rows.shape[2]),
  };
}

/**
 * Zeroes what belongs to padding.
 *
 * @param x [B, T, ...], finite
 * @param valid [B, T], 1 for tokens and 0 for padding; null: no padding, and x itself comes back
 */
export function keepValid<T extends tf.Tensor>(x: T, valid: tf.Tensor | null): T {
  if (!valid) return x;
  return tf.mul(x, tf.reshape(tf.cast(valid, 'float32'), [...valid.shape, ...Array<number>(x.rank - 2).fill(1)]));
}

/** Indices that sort each row [B, T] from high to low. */
function descending(keys: tf.Tensor2D): tf.Tensor2D {
  return topKKernel.run({ input: keys }, { k: keys.shape[1] }).indices as tf.Tensor2D;
}

/** Row b, column t of a [B, T] table as an index into the flattened [B * T] rows. */
function flatIndex(index: tf.Tensor2D): tf.Tensor {
  const [batch, length] = index.shape;
  const offset = tf.mul(tf.range(0, batch, 1, 'int32'), tf.scalar(length, 'int32'));
  return tf.reshape(tf.add(index, tf.reshape(offset, [batch, 1])), [batch * length]);
}

/**
 * The last `count` rows of each sequence that a carried window and new tokens make up, padding left out.
 *
 * @param window [B, W, D], oldest first, from the calls before
 * @param x [B, T, D], padding on the right
 * @param lengths [B] valid tokens of x; null: all
 * @returns [B, count, D]
 */
export function lastRows(window: tf.Tensor3D, x: tf.Tensor3D, lengths: tf.Tensor1D | null, count: number): tf.Tensor3D {
  const joined = window.shape[1] === 0 ? x : (tf.concat([window, x], 1) as tf.Tensor3D); // [B, W + T, D]
  const [batch, total, width] = joined.shape;
  if (total < count) {
    const missing = tf.zeros([batch, count - total, width]);
    return lastRows(tf.concat([missing, window], 1) as tf.Tensor3D, x, lengths, count);
  }
  // the whole is no slice: a cache that keeps everything is copied once, not twice
  if (!lengths) return total === count ? tf.clone(joined) : tf.slice(joined, [0, total - count, 0], [batch, count, width]);
  const end = tf.add(lengths, total - x.shape[1]); // rows in use, per sequence
  const start = tf.reshape(tf.sub(end, count), [batch, 1]);
  const base = tf.mul(tf.range(0, batch, 1, 'float32'), total);
  const index = tf.add(tf.add(start, tf.range(0, count, 1, 'float32')), tf.reshape(base, [batch, 1]));
  const flat = tf.cast(tf.reshape(index, [batch * count]), 'int32');
  return tf.reshape(gatherRows({ table: tf.reshape(joined, [batch * total, width]), indices: flat }), [batch, count, width]) as tf.Tensor3D;
}
