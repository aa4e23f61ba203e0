import * as tf from '@tensorflow/tfjs-core';
import { appendKv, appendRows } from '@seqloom/attention';
import { stopGradient, tidy } from '@seqloom/core';
import { completedWindows, countWindows, countWindowsOf, frontAligned } from '../blocks/completed-windows.ts';
import { cachePlaces, gatheredAttention, joinedColumns, tokensOfBlocks } from '../blocks/gathered-attention.ts';
import type { Heads } from '../blocks/list-attention.ts';
import { earlierBlocks, groupedScores, selectBlocks } from '../blocks/selection.ts';
import type { CachedMobaOptions, MobaOptions, MobaState } from './moba.ts';

/**
 * A state without tokens.
 *
 * @param shape batch B, key heads G, head width D, value width Dv (default D)
 */
export function emptyMobaState(shape: {
  readonly batch: number;
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim?: number;
}): MobaState {
  const { batch, heads, headDim, valueDim = headDim } = shape;
  const key = tf.zeros([batch, 0, heads, headDim]);
  return { key, value: tf.zeros([batch, 0, heads, valueDim]), blockKey: tf.clone(key), position: tf.zeros([batch]) };
}

/**
 * Adds tokens to a state without asking anything of it: for the tokens of a prompt, once `mobaAttention` has read them.
 *
 * @param state stays the caller's
 * @param tokens key [B, T, G, D] and value [B, T, G, Dv]
 * @param options blockSize, and `lengths` [B], valid tokens per row with padding on the right; default all
 * @returns a new state, owned by the caller
 * @throws SeqLoomError when the tokens do not fit the state
 */
export function appendMobaTokens(
  state: MobaState,
  { key, value }: Omit<Heads, 'query'>,
  { blockSize, lengths = null }: Pick<CachedMobaOptions, 'blockSize' | 'lengths'>,
): MobaState {
  return tidy(() => {
    const { blockKey } = state;
    // what places are made of has no gradient
    const position = stopGradient(state.position);
    const cache = appendKv(state, { key, value, lengths });
    const [batch, fresh, heads, width] = key.shape as [number, number, number, number];
    const joined = joinedColumns(state.key, key, cache.key, lengths);
    const blocks = { length: blockSize, stride: blockSize };
    const completed = completedWindows(joined, fresh, position, lengths, blocks);
    if (!completed) return { ...cache, blockKey: tf.clone(blockKey) };
    const means = tf.reshape(tf.mean(completed.tokens, 2), [batch, -1, heads, width]);
    const count = countWindows(joined.shape[1]!, blocks);
    return { ...cache, blockKey: appendRows(blockKey, means, completed.counts, count) };
  });
}

/** The decode form: each query gathers the tokens of its own block and of the earlier blocks that it chose. */
export function decodeForm(
  { query, key, value }: Heads,
  state: MobaState,
  { blockSize, topK, scale }: Required<MobaOptions>,
  lengths: tf.Tensor1D | null,
): { output: tf.Tensor4D; state: MobaState } {
  const [batch, fresh, heads] = query.shape as [number, number, number];
  const next = appendMobaTokens(state, { key, value }, { blockSize, lengths });
  const places = cachePlaces(stopGradient(state.position), state.key.shape[1]!, fresh);
  const own = tf.floor(tf.div(places.positions, blockSize)); // [B, T]
  const counts = countWindowsOf(stopGradient(next.position), { length: blockSize, stride: blockSize });
  let lists: tf.Tensor = tf.add(tf.reshape(own, [batch, 1, fresh, 1]), tf.zeros([batch, heads, fresh, 1]));
  const complete = next.blockKey.shape[1]!;
  if (complete > 0 && topK > 1) {
    const gates = groupedScores(stopGradient(query), frontAligned(stopGradient(next.blockKey), counts)); // [B, H, T, N]
    const visible = tf.expandDims(earlierBlocks(own, complete), 1); // [B, 1, T, N]
    lists = tf.concat([lists, selectBlocks(gates, { visible, count: topK - 1 })], 3);
  }
  const joined = {
    query,
    key: joinedColumns(state.key, key, next.key, lengths),
    value: joinedColumns(state.value, value, next.value, lengths),
  };
  const { output } = gatheredAttention(joined, tokensOfBlocks(lists, places, blockSize), scale!);
  return { output: output as tf.Tensor4D, state: next };
}
