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
export function rollingAttention(
  inputs: AttentionInputs & { readonly sinkQuery?: tf.Tensor | undefined },
  state: State,
  options: RollingOptions,
): { output: tf.Tensor4D; state: State } {
  const { window, sinks = 0, positions = 'absolute', valid = null, lengths = null, scale, softCap } = options;
  const { sinkQuery, query, key, value, sinkLogits, slopes } = inputs;
  if (!Number.isInteger(window) || window < 1)
    fail({
      mechanism: 'sliding-window-attention',
      argument: 'options.window',
      wanted: 'a whole number of at least 1',
      given: String(window),
      remedy: 'The window counts the query itself.',
    });
  return tidy(() => {
    const [batch, length] = key.shape as [number, number];
    const cached = window - 1;
    const empty = (x: tf.Tensor): tf.Tensor => tf.zeros([batch, 0, x.shape[2]!, x.shape[3]!]);
    const [windowKey, windowValue] = [state.windowKey ?? empty(key), state.windowValue ?? empty(value)];
    // sinks are read from their own place, so the window leaves them out
    const exists = existingKeys(state.position, cached, length, valid, sinks);
    const recent = softmaxAttention(
      {
        query,
        key: joinTime(windowKey, key),
        value: joinTime(windowValue, value),
        keyPositions: alignedPositions(exists),
        sinkLogits,
        slopes,
      },
      { causal: true, window, aligned: true, scale, softCap },
    );
    const next: Record<string, tf.Tensor> = { position: tf.add(state.position, lengths ?? length) };
    if (cached > 0) {
      next.windowKey = appendRows(windowKey, key, lengths, cached);
      next.windowValue = appendRows(windowValue, value, lengths, cached);
    }
    if (sinks === 0) return { output: recent.output, state: next as unknown as State };
    const chosen = sinkRows(state.position, sinks, length, valid);
    next.sinkKey = fillSinks(state.sinkKey!, key, chosen);
    next.sinkValue = fillSinks(state.sinkValue!, value, chosen);
    const place = tf.add(tf.reshape(state.position, [batch, 1]), tf.reshape(tf.range(0, length), [1, length]));
    const first = softmaxAttention(
      {
        query: sinkQuery ?? query,
        key: next.sinkKey,
        value: next.sinkValue,
        // causality also hides the sinks that are still to come
        queryPositions: positions === 'cache' ? tf.minimum(place, sinks + window - 1) : place,
        slopes,
      },
      { causal: true, scale, softCap },
    );
    return { output: mergeAttention([recent, first]).output as tf.Tensor4D, state: next as unknown as State };
  });
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
