import { gatherRows, rotary } from '@seqloom/core';
import type { StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { rotationAngles, rotationFrequencies } from '../retention/rotation.ts';

/**
 * What RAT carries from piece to piece.
 *
 * Of the N entries of `key` and `value` the last floor(position / C) of a row are its finished chunks, oldest first; those before are zero.
 * `phase` holds no numbers: its extent E tells the host how far the rows are. Below C it is the number of tokens that every row has in its
 * unfinished chunk. From C to 2 C - 1, rows had padding, and none has more than E - C tokens beyond N chunks; above, nothing is known.
 */
export interface RatState {
  readonly [name: string]: tf.Tensor;
  /** keys at the ends of finished chunks, turned, [B, N, H, D] */
  readonly key: tf.Tensor;
  /** values there, [B, N, H, D] */
  readonly value: tf.Tensor;
  /** k~ after the last token, [B, H, D] */
  readonly runningKey: tf.Tensor;
  /** v~ after the last token, [B, H, D] */
  readonly runningValue: tf.Tensor;
  /** tokens seen per row, [B] */
  readonly position: tf.Tensor;
  /** [B, E, 0] */
  readonly phase: tf.Tensor;
}

/** Shapes of the state, `position` left out. */
export function ratStateShapes(batch: number, heads: number, width: number): StateShapes {
  const cache = [batch, 'length', heads, width] as const;
  const running = [batch, heads, width];
  return { key: cache, value: cache, runningKey: running, runningValue: running, phase: [batch, 'length', 0] };
}

/** Where the tokens of a piece stand, [B, T] each. */
export interface Places {
  /** index of the token's chunk */
  readonly chunk: tf.Tensor2D;
  /** 0 at the first token of a chunk, 1 elsewhere */
  readonly inside: tf.Tensor2D;
}

/** Whole chunks in a number of tokens, for whole numbers below 2^23. */
function wholeChunks(tokens: tf.Tensor, chunkSize: number): tf.Tensor {
  return tf.floor(tf.div(tf.add(tokens, 0.5), chunkSize));
}

/** Places of the T tokens that come after `position` [B]. */
export function placesOf(position: tf.Tensor, length: number, chunkSize: number): Places {
  const places = tf.add(tf.reshape(position, [-1, 1]), tf.reshape(tf.range(0, length, 1, 'float32'), [1, length])) as tf.Tensor2D;
  const chunk = wholeChunks(places, chunkSize) as tf.Tensor2D;
  return { chunk, inside: tf.minimum(tf.sub(places, tf.mul(chunk, chunkSize)), 1) };
}

/** The rotation of heads [B, T, H, D] by the index of their chunk; null base: none. */
export function turnBy(chunk: tf.Tensor2D, width: number, base: number | null): (heads: tf.Tensor) => tf.Tensor {
  if (base === null) return (heads) => heads;
  const [batch, length] = chunk.shape;
  // every token as a row of its own
  const flat = rotationAngles(tf.reshape(chunk, [batch * length]), 1, rotationFrequencies(width, 'fla', base));
  const [cos, sin] = [flat.cos, flat.sin].map((part) => tf.reshape(part, [batch, length, width / 2])) as [tf.Tensor, tf.Tensor];
  return (heads) => rotary({ input: heads, cos, sin });
}

/** Index of the chunk that each of `count` entries holds, -1 where it holds none, [B, count]. */
export function cachedChunks(position: tf.Tensor, count: number, chunkSize: number): tf.Tensor2D {
  const finished = tf.reshape(wholeChunks(position, chunkSize), [-1, 1]);
  return tf.maximum(tf.add(finished, tf.reshape(tf.range(-count, 0, 1, 'float32'), [1, count])), -1);
}

/** Running pairs of a piece, keys turned, [B, T, H, D] each. */
export interface RunningPairs {
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
}

/**
 * Adds the chunks that a piece finishes to the cache.
 *
 * How many entries to keep is decided from extents alone, so that nothing is read back from the device.
 *
 * @param lengths [B] valid tokens of the piece per row; null: all
 * @returns the new cache, position and phase
 */
export function growCache(
  state: RatState,
  pairs: RunningPairs,
  chunkSize: number,
  lengths: tf.Tensor | null,
): Pick<RatState, 'key' | 'value' | 'position' | 'phase'> {
  const [batch, length, heads, width] = pairs.key.shape as [number, number, number, number];
  const [have, extent] = [state.key.shape[1]!, state.phase.shape[1]!];
  const apart = lengths !== null || extent >= chunkSize;
  const beyond = extent < 2 * chunkSize ? extent % chunkSize : chunkSize - 1;
  const tokens = have * chunkSize + beyond + length;
  const count = Math.floor(tokens / chunkSize);
  const position = tf.add(state.position, lengths ?? length);
  const phase = tf.zeros([batch, (tokens % chunkSize) + (apart ? chunkSize : 0), 0]);
  if (count === 0 || (!apart && count === have)) return { key: tf.clone(state.key), value: tf.clone(state.value), position, phase };
  // rows of a table: old entries, tokens of the piece, and a zero
  const rows = have + length + 1;
  const old = tf.reshape(wholeChunks(state.position, chunkSize), [batch, 1]);
  const chunk = cachedChunks(position, count, chunkSize);
  const fromCache = tf.sub(tf.add(chunk, have), old);
  const fromPiece = tf.sub(tf.add(tf.mul(tf.add(chunk, 1), chunkSize), have - 1), tf.reshape(state.position, [batch, 1]));
  const filled = tf.where(tf.less(chunk, old), fromCache, fromPiece);
  const index = tf.where(tf.less(chunk, 0), tf.fill([batch, count], rows - 1), filled);
  const base = tf.reshape(tf.range(0, batch, 1, 'float32'), [batch, 1]);
  const indices = tf.cast(tf.reshape(tf.add(index, tf.mul(base, rows)), [batch * count]), 'int32');
  const pick = (cached: tf.Tensor, fresh: tf.Tensor): tf.Tensor => {
    const parts = [...(have > 0 ? [cached] : []), fresh, tf.zeros([batch, 1, heads, width])];
    const table = tf.reshape(tf.concat(parts, 1), [batch * rows, heads * width]);
    return tf.reshape(gatherRows({ table, indices }), [batch, count, heads, width]);
  };
  return { key: pick(state.key, pairs.key), value: pick(state.value, pairs.value), position, phase };
}
