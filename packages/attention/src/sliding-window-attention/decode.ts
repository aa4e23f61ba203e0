import * as tf from '@tensorflow/tfjs-core';
import { fail, mergeAttention, softmaxAttention, tidy } from '@seqloom/core';
import type { State, StateShapes } from '@seqloom/core';
import { alignedPositions, appendRows, existingKeys, joinTime } from '../kv-cache/kv-cache.ts';
import type { AttentionInputs } from '../mha-mqa-gqa/parallel.ts';
import type { WindowOptions } from './chunk.ts';

/** Sizes of a rolling cache. */
export interface RollingCacheShape {
  readonly window: number;
  readonly sinks?: number | undefined;
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim?: number | undefined;
}

/**
 * Shapes of a rolling cache: the last W - 1 tokens right aligned, oldest first, and the first S tokens at their own places; parts
 * without entries are left out.
 */
export function rollingCacheShapes(
  batch: number,
  { window, sinks = 0, heads, headDim, valueDim = headDim }: RollingCacheShape,
): StateShapes {
  return {
    ...(window > 1 ? { windowKey: [batch, window - 1, heads, headDim], windowValue: [batch, window - 1, heads, valueDim] } : {}),
    ...(sinks > 0 ? { sinkKey: [batch, sinks, heads, headDim], sinkValue: [batch, sinks, heads, valueDim] } : {}),
  };
}

/** Inputs of `rollingAttention`. */
export interface RollingInputs extends AttentionInputs {
  /** [B, T, H, D], the query as sinks meet it; default the query itself */
  readonly sinkQuery?: tf.Tensor | undefined;
}

/** Options of `rollingAttention`. */
export interface RollingOptions extends Omit<WindowOptions, 'causal'> {
  /** 'cache': a sink's distance is counted within the cache, so that it never grows beyond S + W - 1; default 'absolute' */
  readonly positions?: 'absolute' | 'cache' | undefined;
  /** [B, T], with padding on the right */
  readonly valid?: tf.Tensor2D | null | undefined;
  /** [B], valid tokens per row */
  readonly lengths?: tf.Tensor1D | null | undefined;
}

/**
 * Causal sliding-window attention of one or more new tokens to a rolling cache of bounded size and to one another.
 *
 * Piece by piece it gives what `slidingWindowAttention` gives in one call. Window and sinks are two partial results over disjoint
 * keys, merged by their log-sum-exp: only so can sinks stand at another distance than the window ('cache', StreamingLLM).
 *
 * @param inputs query, key and value of the new tokens, rotated at their own positions; `sinkQuery` is the query as sinks meet it,
 *   rotated at min(position, S + W - 1) under 'cache'; default the query itself
 * @param state with the shapes of `rollingCacheShapes` and `position` [B]; stays the caller's
 * @param options window, sinks, positions, padding
 * @returns output [B, T, H, Dv] (arbitrary at padding) and the new state, both owned by the caller
 * @throws SeqLoomError when shapes or options do not fit
 */
export function rollingAttention(inputs: RollingInputs, state: State, options: RollingOptions): { output: tf.Tensor4D; state: State } {
  const { window, lengths = null } = options;
  const { key, value } = inputs;
  return tidy(() => {
    const { output, sinks } = attend(inputs, state, options);
    const next: Record<string, tf.Tensor> = { position: tf.add(state.position, lengths ?? key.shape[1]!), ...sinks };
    if (window > 1) {
      next.windowKey = appendRows(state.windowKey ?? emptyRows(key), key, lengths, window - 1);
      next.windowValue = appendRows(state.windowValue ?? emptyRows(value), value, lengths, window - 1);
    }
    return { output, state: next as unknown as State };
  });
}

/**
 * The attention of `rollingAttention` alone, for a layer that reads a cache which another one extends.
 *
 * @param inputs as those of `rollingAttention`
 * @param state before the new tokens; stays the caller's
 * @param options window, sinks, positions, padding
 * @returns output [B, T, H, Dv] (arbitrary at padding), owned by the caller
 * @throws SeqLoomError when shapes or options do not fit
 */
export function attendRollingCache(inputs: RollingInputs, state: State, options: Omit<RollingOptions, 'lengths'>): tf.Tensor4D {
  return tidy(() => attend(inputs, state, options).output);
}

/** Output, and the sinks with the new tokens among them. */
function attend(
  { sinkQuery, query, key, value, sinkLogits, slopes }: RollingInputs,
  state: State,
  { window, sinks = 0, positions = 'absolute', valid = null, scale, softCap }: RollingOptions,
): { output: tf.Tensor4D; sinks: Readonly<Record<string, tf.Tensor>> } {
  if (!Number.isInteger(window) || window < 1)
    fail({
      mechanism: 'sliding-window-attention',
      argument: 'options.window',
      wanted: 'a whole number of at least 1',
      given: String(window),
      remedy: 'The window counts the query itself.',
    });
  const [batch, length] = key.shape as [number, number];
  // sinks are read from their own place, so the window leaves them out
  const exists = existingKeys(state.position, window - 1, length, valid, sinks);
  const recent = softmaxAttention(
    {
      query,
      key: joinTime(state.windowKey ?? emptyRows(key), key),
      value: joinTime(state.windowValue ?? emptyRows(value), value),
      keyPositions: alignedPositions(exists),
      sinkLogits,
      slopes,
    },
    { causal: true, window, aligned: true, scale, softCap },
  );
  if (sinks === 0) return { output: recent.output, sinks: {} };
  const chosen = sinkRows(state.position, sinks, length, valid);
  const sinkKey = fillSinks(state.sinkKey!, key, chosen);
  const sinkValue = fillSinks(state.sinkValue!, value, chosen);
  const place = tf.add(tf.reshape(state.position, [batch, 1]), tf.reshape(tf.range(0, length), [1, length]));
  const first = softmaxAttention(
    {
      query: sinkQuery ?? query,
      key: sinkKey,
      value: sinkValue,
      // causality also hides the sinks that are still to come
      queryPositions: positions === 'cache' ? tf.minimum(place, sinks + window - 1) : place,
      slopes,
    },
    { causal: true, scale, softCap },
  );
  return { output: mergeAttention([recent, first]).output as tf.Tensor4D, sinks: { sinkKey, sinkValue } };
}

/** No tokens of x's heads. */
function emptyRows(x: tf.Tensor): tf.Tensor {
  return tf.zeros([x.shape[0]!, 0, x.shape[2]!, x.shape[3]!]);
}

/** Which of the first new tokens is which sink: [B, S, min(T, S)], 1 where position + t = s and the token is valid. */
function sinkRows(position: tf.Tensor, sinks: number, length: number, valid: tf.Tensor2D | null): tf.Tensor3D {
  // positions start at 0, so no later token of a piece can be a sink
  const reach = Math.min(length, sinks);
  const offset = tf.sub(tf.reshape(tf.range(0, reach), [1, 1, reach]), tf.reshape(tf.range(0, sinks), [1, sinks, 1]));
  const distance = tf.add(tf.reshape(position, [-1, 1, 1]), offset);
  const same = tf.relu(tf.sub(1, tf.abs(distance))) as tf.Tensor3D;
  return valid ? tf.mul(same, tf.expandDims(tf.slice(valid, [0, 0], [-1, reach]), 1)) : same;
}

/** Puts new sink tokens at their places, which hold zeros until then. */
function fillSinks(sinks: tf.Tensor, x: tf.Tensor, chosen: tf.Tensor3D): tf.Tensor {
  const [batch, , heads, width] = x.shape as [number, number, number, number];
  const reach = chosen.shape[2];
  const tokens = tf.reshape(tf.slice(x, [0, 0, 0, 0], [-1, reach, -1, -1]), [batch, reach, heads * width]);
  return tf.add(sinks, tf.reshape(tf.matMul(chosen, tokens), sinks.shape));
}
