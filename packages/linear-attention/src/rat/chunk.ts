import { linearScan, mergeAttention, softmaxAttention } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { cachedChunks, growCache, placesOf, turnBy } from './chunk-cache.ts';
import type { RatState } from './chunk-cache.ts';

/** What every form works on: checked. */
export interface RatCall {
  /** [B, T, H, D], as all four */
  readonly query: tf.Tensor;
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
  readonly logDecay: tf.Tensor;
  readonly state: RatState;
  readonly chunkSize: number;
  readonly scale: number;
  readonly rotaryBase: number | null;
  /** [B]; null: all tokens are valid */
  readonly lengths: tf.Tensor | null;
}

/** Output [B, T, H, D] and the state after the last valid token. */
export interface RatResult {
  readonly output: tf.Tensor4D;
  readonly state: RatState;
}

/**
 * What a token does to its running pair, `decay * pair + write * fresh`: nothing of an earlier chunk stays, and padding changes nothing.
 *
 * @param inside 0 at the first token of a chunk, 1 elsewhere, [B, T]
 * @returns decay and write, [B, T, H, D]
 */
export function gatesOf(
  logDecay: tf.Tensor,
  inside: tf.Tensor2D,
  lengths: tf.Tensor | null,
): { readonly decay: tf.Tensor; readonly write: tf.Tensor } {
  const [batch, length] = inside.shape;
  const shape = [batch, length, 1, 1];
  const decay = tf.mul(tf.exp(logDecay), tf.reshape(inside, shape));
  const write = tf.neg(tf.expm1(logDecay));
  if (!lengths) return { decay, write };
  const valid = tf.reshape(validOf(lengths, length), shape);
  return { decay: tf.add(tf.mul(decay, valid), tf.sub(1, valid)), write: tf.mul(write, valid) };
}

// [B, T], 1 for tokens and 0 for the padding on their right
function validOf(lengths: tf.Tensor, length: number): tf.Tensor {
  const places = tf.reshape(tf.range(0, length, 1, 'float32'), [1, length]);
  return tf.cast(tf.less(places, tf.reshape(lengths, [-1, 1])), 'float32');
}

/**
 * The chunked form: one scan for all running pairs, then attention over the ends of earlier chunks, merged with the running pair by
 * their log-sum-exp.
 */
export function chunkForm({ query, key, value, logDecay, state, chunkSize, scale, rotaryBase, lengths }: RatCall): RatResult {
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const { chunk, inside } = placesOf(state.position, length, chunkSize);
  const { decay, write } = gatesOf(logDecay, inside, lengths);
  const flat = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [batch, length, heads * width]);
  const scan = (fresh: tf.Tensor, before: tf.Tensor): { pairs: tf.Tensor; last: tf.Tensor } => {
    const first = tf.reshape(before, [batch, heads * width]);
    const { hidden, state: last } = linearScan({ decay: flat(decay), input: flat(tf.mul(write, fresh)), state: first });
    return { pairs: tf.reshape(hidden, [batch, length, heads, width]), last: tf.reshape(last, [batch, heads, width]) };
  };
  const keys = scan(key, state.runningKey);
  const values = scan(value, state.runningValue);
  const turn = turnBy(chunk, width, rotaryBase);
  const grown = growCache(state, { key: turn(keys.pairs), value: values.pairs }, chunkSize, lengths);
  const after = { ...grown, runningKey: keys.last, runningValue: values.last };
  const count = grown.key.shape[1]!;
  if (count === 0) return { output: values.pairs as tf.Tensor4D, state: after };
  // both would be turned alike, which leaves their product alone
  const own = tf.mul(tf.sum(tf.mul(query, keys.pairs), 3), scale);
  const earlier = softmaxAttention(
    {
      query: turn(query),
      key: grown.key,
      value: grown.value,
      queryPositions: tf.sub(chunk, 1),
      keyPositions: cachedChunks(grown.position, count, chunkSize),
    },
    { scale, causal: true },
  );
  const merged = mergeAttention([earlier, { output: values.pairs, logSumExp: own }]);
  return { output: merged.output as tf.Tensor4D, state: after };
}
