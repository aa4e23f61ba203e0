import * as tf from '@tensorflow/tfjs-core';
import { fail, lastRows, tidy } from '@seqloom/core';

/**
 * Keys and values of the tokens that attention may still read: a state record, immutable and right aligned.
 *
 * Of the L entries of a row the last min(position, L) are valid, oldest first; those before are zero. An entry's token position is
 * therefore `position - L + index`, whatever was appended in which pieces.
 */
export type KvCache = {
  /** [B, L, G, D] */
  readonly key: tf.Tensor;
  /** [B, L, G, Dv] */
  readonly value: tf.Tensor;
  /** [B], tokens seen per row */
  readonly position: tf.Tensor;
};

/** New tokens for a cache. */
export interface KvTokens {
  /** [B, T, G, D] */
  readonly key: tf.Tensor;
  /** [B, T, G, Dv] */
  readonly value: tf.Tensor;
  /** [B] float32, valid tokens per row with padding on the right; default: all */
  readonly lengths?: tf.Tensor1D | null | undefined;
}

/**
 * A cache without entries.
 *
 * @param shape batch B, key heads G, head width D, value width Dv (default D)
 */
export function emptyKvCache(shape: {
  readonly batch: number;
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim?: number;
}): KvCache {
  const { batch, heads, headDim, valueDim = headDim } = shape;
  return { key: tf.zeros([batch, 0, heads, headDim]), value: tf.zeros([batch, 0, heads, valueDim]), position: tf.zeros([batch]) };
}

/**
 * Adds tokens behind the entries of a cache.
 *
 * @param cache stays the caller's
 * @param tokens key, value and, with padding, lengths
 * @param window most entries to keep (0 keeps none); default: all
 * @returns a new cache, owned by the caller; the old one goes on working, which is all that rolling back takes
 * @throws SeqLoomError when shapes do not fit the cache
 */
export function appendKv(cache: KvCache, tokens: KvTokens, window?: number): KvCache {
  const { key, value, lengths = null } = tokens;
  for (const [name, tensor] of [
    ['key', key],
    ['value', value],
  ] as const) {
    const [batch, , heads, width] = cache[name].shape;
    if (tensor.rank === 4 && tensor.shape[0] === batch && tensor.shape[2] === heads && tensor.shape[3] === width) continue;
    fail({
      mechanism: 'kv-cache',
      argument: `tokens.${name}`,
      wanted: `[${batch}, T, ${heads}, ${width}]`,
      given: `[${tensor.shape.join(', ')}]`,
      remedy: 'Append tokens of the batch and heads that the cache was made for.',
    });
  }
  const total = cache.key.shape[1]! + key.shape[1]!;
  const count = window === undefined ? total : Math.min(window, total);
  return tidy(() => ({
    key: appendRows(cache.key, key, lengths, count),
    value: appendRows(cache.value, value, lengths, count),
    position: tf.add(cache.position, lengths ?? key.shape[1]!),
  }));
}

/**
 * The last `count` entries once the valid rows of x are behind those of a cache; zeros in front where there are fewer.
 *
 * @param cached [B, L, G, D], right aligned
 * @param x [B, T, G, D], padding on the right
 * @param lengths [B] valid tokens of x; null: all
 * @returns [B, count, G, D]
 */
export function appendRows(cached: tf.Tensor, x: tf.Tensor, lengths: tf.Tensor1D | null, count: number): tf.Tensor {
  const [batch, , heads, width] = x.shape as [number, number, number, number];
  if (count === 0) return tf.zeros([batch, 0, heads, width]);
  return tidy(() => {
    const flat = (rows: tf.Tensor): tf.Tensor3D => tf.reshape(rows, [batch, rows.shape[1]!, heads * width]);
    let window = flat(cached);
    // a row without valid tokens still has to find `count` entries, all of them its old ones
    const missing = lengths ? count - window.shape[1] : 0;
    if (missing > 0) window = joinTime(tf.zeros([batch, missing, heads * width]), window) as tf.Tensor3D;
    return tf.reshape(lastRows(window, flat(x), lengths, count), [batch, count, heads, width]);
  });
}

/** Joins along time; an empty part costs nothing. */
export function joinTime(before: tf.Tensor, after: tf.Tensor): tf.Tensor {
  if (before.shape[1] === 0) return after;
  return after.shape[1] === 0 ? before : tf.concat([before, after], 1);
}

/**
 * Keeps the newest entries only.
 *
 * @returns a new cache with at most `length` entries per row, owned by the caller
 */
export function windowKv(cache: KvCache, length: number): KvCache {
  const have = cache.key.shape[1]!;
  const keep = Math.min(length, have);
  const newest = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, have - keep, 0, 0], [-1, keep, -1, -1]);
  return tidy(() => ({ key: newest(cache.key), value: newest(cache.value), position: tf.clone(cache.position) }));
}

/**
 * Forgets the newest tokens, as speculative decoding does with rejected ones.
 *
 * @param count tokens to forget, of every row; a windowed cache cannot bring back what it dropped before
 * @returns a new cache, owned by the caller
 * @throws SeqLoomError when the cache has fewer entries
 */
export function truncateKv(cache: KvCache, count: number): KvCache {
  const have = cache.key.shape[1]!;
  if (!Number.isInteger(count) || count < 0 || count > have)
    fail({
      mechanism: 'kv-cache',
      argument: 'count',
      wanted: `a whole number of 0 to ${have}`,
      given: String(count),
      remedy: 'Keep an older snapshot to go back further.',
    });
  const oldest = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, 0, 0, 0], [-1, have - count, -1, -1]);
  return tidy(() => ({ key: oldest(cache.key), value: oldest(cache.value), position: tf.relu(tf.sub(cache.position, count)) }));
}

/** A second owner of the same entries; since caches never change, this is all that a snapshot takes. */
export function snapshotKv(cache: KvCache): KvCache {
  return { key: tf.clone(cache.key), value: tf.clone(cache.value), position: tf.clone(cache.position) };
}

/** Bytes that a cache holds. */
export function kvBytes(cache: KvCache): number {
  return 4 * (cache.key.size + cache.value.size + cache.position.size);
}

/**
 * Which entries of right-aligned rows exist, followed by which of the new tokens do.
 *
 * @param position [B], tokens seen before
 * @param cached L, entries in front
 * @param fresh T, new tokens
 * @param valid [B, T], 1 for tokens; null: all
 * @param from first token position that counts, default 0
 * @returns [B, L + T] float32, 1 or 0
 */
export function existingKeys(position: tf.Tensor, cached: number, fresh: number, valid: tf.Tensor2D | null, from = 0): tf.Tensor2D {
  return tidy(() => {
    const batch = position.shape[0]!;
    const offset = tf.reshape(tf.range(-cached - from, fresh - from), [1, cached + fresh]);
    // positions are whole numbers: clip(x + 1, 0, 1) says x >= 0
    const reached = tf.clipByValue(tf.add(tf.add(tf.reshape(position, [batch, 1]), offset), 1), 0, 1) as tf.Tensor2D;
    return valid ? tf.mul(reached, joinTime(tf.ones([batch, cached]), valid)) : reached;
  });
}

/** Positions for the `aligned` option of softmax attention: a key's index where it exists, -1 where not. */
export function alignedPositions(exists: tf.Tensor2D): tf.Tensor2D {
  return tidy(() => tf.sub(tf.mul(exists, tf.reshape(tf.range(1, exists.shape[1] + 1), [1, exists.shape[1]])), 1));
}
