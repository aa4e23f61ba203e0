import * as tf from '@tensorflow/tfjs-core';
import { alignedPositions, appendRows, existingKeys, joinTime } from '@seqloom/attention';
import { checkSetting, checkTensor, softmaxAttention, tidy } from '@seqloom/core';
import type { State, StateShapes } from '@seqloom/core';
import { padTime } from './gathered.ts';
import type { FlatHeads } from './gathered.ts';

/** Sizes of the cache of causal neighborhood attention. */
export interface NeighborhoodCacheShape {
  readonly window: number;
  readonly dilation: number;
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim?: number | undefined;
}

/** Shapes of the cache: the last δ (w - 1) tokens, oldest first, right aligned; empty for a window of 1. */
export function neighborhoodCacheShapes(
  batch: number,
  { window, dilation, heads, headDim, valueDim = headDim }: NeighborhoodCacheShape,
): StateShapes {
  const cached = dilation * (window - 1);
  if (cached === 0) return {};
  return { windowKey: [batch, cached, heads, headDim], windowValue: [batch, cached, heads, valueDim] };
}

/** Settings of `rollingNeighborhood`. */
export interface RollingNeighborhoodSettings {
  readonly window: number;
  /** default 1 */
  readonly dilation?: number | undefined;
  /** default D^-0.5 */
  readonly scale?: number | undefined;
  /** [B, T], with padding on the right */
  readonly valid?: tf.Tensor2D | null | undefined;
  /** [B], valid tokens per row */
  readonly lengths?: tf.Tensor1D | null | undefined;
}

/**
 * Causal neighborhood attention of new tokens along one axis: token t reads t, t - δ, …, t - (w - 1) δ of the cache and of the tokens
 * that came with it.
 *
 * Piece by piece it gives what `neighborhoodAttention` gives in one call with stride 1.
 *
 * @param inputs query [B, T, H, D], key [B, T, G, D], value [B, T, G, Dv] of the new tokens
 * @param state with the shapes of `neighborhoodCacheShapes` and `position` [B]; stays the caller's
 * @param settings window, dilation, scale, padding
 * @returns output [B, T, H, Dv] (arbitrary at padding) and the new state, both owned by the caller
 * @throws SeqLoomError when shapes, dtypes or settings do not fit
 */
export function rollingNeighborhood(
  inputs: FlatHeads,
  state: State,
  settings: RollingNeighborhoodSettings,
): { output: tf.Tensor4D; state: State } {
  const { window, dilation = 1, scale, valid = null, lengths = null } = settings;
  const { query, key, value } = inputs;
  checkCall(inputs, state, window, dilation);
  return tidy(() => {
    const [batch, length] = query.shape as [number, number];
    const cached = dilation * (window - 1);
    const empty = (x: tf.Tensor): tf.Tensor => tf.zeros([batch, 0, x.shape[2]!, x.shape[3]!]);
    const [windowKey, windowValue] = [state.windowKey ?? empty(key), state.windowValue ?? empty(value)];
    const missing = (dilation - (length % dilation)) % dilation;
    // the cache is a whole number of rounds long, so its residue classes are those of the new tokens
    const classes = Math.min(dilation, length);
    const fold = (x: tf.Tensor): tf.Tensor => {
      const [, , each, width] = x.shape as [number, number, number, number];
      const filled = padTime(x, missing);
      if (dilation === 1) return filled;
      const rounds = tf.reshape(filled, [batch, -1, dilation, each * width]);
      const used = tf.slice(rounds, [0, 0, 0, 0], [-1, -1, classes, -1]);
      return tf.reshape(tf.transpose(used, [0, 2, 1, 3]), [batch * classes, -1, each, width]);
    };
    const exists = existingKeys(state.position, cached, length, valid);
    const there = fold(tf.reshape(exists, [batch, cached + length, 1, 1]));
    const { output } = softmaxAttention(
      {
        query: fold(query),
        key: fold(joinTime(windowKey, key)),
        value: fold(joinTime(windowValue, value)),
        keyPositions: alignedPositions(tf.reshape(there, [there.shape[0]!, there.shape[1]!])),
      },
      { causal: true, window, aligned: true, scale },
    );
    const next: Record<string, tf.Tensor> = { position: tf.add(state.position, lengths ?? length) };
    if (cached > 0) {
      next.windowKey = appendRows(windowKey, key, lengths, cached);
      next.windowValue = appendRows(windowValue, value, lengths, cached);
    }
    return { output: unfold(output, batch, classes, length), state: next as unknown as State };
  });
}

/** Puts residue classes [B * classes, rounds, H, Dv] back in time order and drops what was filled up. */
function unfold(x: tf.Tensor4D, batch: number, classes: number, length: number): tf.Tensor4D {
  const [, rounds, heads, width] = x.shape;
  if (classes === 1) return x;
  const apart = tf.transpose(tf.reshape(x, [batch, classes, rounds, heads * width]), [0, 2, 1, 3]);
  const flat = tf.reshape(apart, [batch, rounds * classes, heads, width]) as tf.Tensor4D;
  return flat.shape[1] === length ? flat : tf.slice(flat, [0, 0, 0, 0], [batch, length, heads, width]);
}

function checkCall({ query, key, value }: FlatHeads, state: State, window: number, dilation: number): void {
  const mechanism = 'neighborhood-attention';
  for (const [name, size] of Object.entries({ window, dilation })) {
    const whole = Number.isInteger(size) && size >= 1;
    checkSetting(mechanism, `settings.${name}`, whole, 'a whole number of at least 1', size, 'It counts tokens.');
  }
  const extents = new Map<string, number>();
  checkTensor(mechanism, 'query', query, ['batch', 'tokens', 'heads', 'head dim'], extents);
  checkTensor(mechanism, 'key', key, ['batch', 'tokens', 'key heads', 'head dim'], extents);
  checkTensor(mechanism, 'value', value, ['batch', 'tokens', 'key heads', 'value dim'], extents);
  checkTensor(mechanism, 'state.position', state.position, ['batch'], extents);
  const cached = dilation * (window - 1);
  if (cached === 0) return;
  checkTensor(mechanism, 'state.windowKey', state.windowKey, ['batch', cached, 'key heads', 'head dim'], extents);
  checkTensor(mechanism, 'state.windowValue', state.windowValue, ['batch', cached, 'key heads', 'value dim'], extents);
}
