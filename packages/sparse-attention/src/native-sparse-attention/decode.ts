import * as tf from '@tensorflow/tfjs-core';
import { alignedPositions, appendKv, appendRows, existingKeys } from '@seqloom/attention';
import { softmaxAttention, stopGradient, tidy } from '@seqloom/core';
import { countWindows, countWindowsOf, frontAligned } from '../blocks/completed-windows.ts';
import { cachePlaces, gatheredAttention, joinedColumns, tokensOfBlocks } from '../blocks/gathered-attention.ts';
import type { Heads } from '../blocks/list-attention.ts';
import { chooseBlocks } from './choose-blocks.ts';
import { compressCompleted, gatedSum } from './chunk.ts';
import { compressionOf } from './compression.ts';
import type { Compress } from './compression.ts';
import type { CachedSparseOptions, SparseInputs, SparseSettings, SparseState } from './native-sparse-attention.ts';

/**
 * A state without tokens.
 *
 * @param shape batch B, key heads G, head width D, value width Dv (default D)
 */
export function emptySparseState(shape: {
  readonly batch: number;
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim?: number;
}): SparseState {
  const { batch, heads, headDim, valueDim = headDim } = shape;
  const [key, value] = [tf.zeros([batch, 0, heads, headDim]), tf.zeros([batch, 0, heads, valueDim])];
  return { key, value, compressedKey: tf.clone(key), compressedValue: tf.clone(value), position: tf.zeros([batch]) };
}

/**
 * Adds tokens to a state without asking anything of it: for the tokens of a prompt, once `nativeSparseAttention` has read them.
 *
 * @param state stays the caller's
 * @param tokens key [B, T, G, D] and value [B, T, G, Dv]
 * @param options the compression, and `lengths` [B], valid tokens per row with padding on the right; default all
 * @returns a new state, owned by the caller
 * @throws SeqLoomError when the tokens do not fit the state
 */
export function appendSparseTokens(
  state: SparseState,
  { key, value }: Omit<Heads, 'query'>,
  options: CachedSparseOptions = {},
): SparseState {
  const { lengths = null } = options;
  const compression = compressionOf(options);
  return tidy(() => {
    const cache = appendKv(state, { key, value, lengths });
    const fresh = key.shape[1]!;
    // what places are made of has no gradient
    const position = stopGradient(state.position);
    const total = state.key.shape[1]! + fresh;
    const count = countWindows(total, { length: compression.compressionLength, stride: compression.compressionStride });
    const grown = (before: tf.Tensor, joined: tf.Tensor, compress: Compress): tf.Tensor => {
      const completed = compressCompleted(joined, fresh, position, lengths, compression, compress);
      return completed ? appendRows(before, completed.rows, completed.counts, count) : tf.clone(before);
    };
    return {
      ...cache,
      compressedKey: grown(state.compressedKey, joinedColumns(state.key, key, cache.key, lengths), compression.compressKey),
      compressedValue: grown(state.compressedValue, joinedColumns(state.value, value, cache.value, lengths), compression.compressValue),
    };
  });
}

/** The decode form: the three branches of new tokens against a cache; selected blocks are gathered. */
export function decodeForm(
  inputs: SparseInputs,
  state: SparseState,
  settings: SparseSettings,
  lengths: tf.Tensor1D | null,
): { output: tf.Tensor4D; state: SparseState } {
  const { query, compressedGate, selectedGate, windowGate } = inputs;
  const { compressionLength, compressionStride, selectionBlock, window, scale } = settings;
  const [batch, fresh, groups] = inputs.key.shape as [number, number, number];
  const cached = state.key.shape[1]!;
  const next = appendSparseTokens(state, inputs, { ...settings, lengths });
  const places = cachePlaces(stopGradient(state.position), cached, fresh);
  const branches: { output: tf.Tensor; gate: tf.Tensor | undefined }[] = [];
  let scores: Parameters<typeof chooseBlocks>[0] = null;
  const windows = next.compressedKey.shape[1]!;
  if (windows > 0) {
    const counts = countWindowsOf(stopGradient(next.position), { length: compressionLength, stride: compressionStride });
    const [key, value] = [frontAligned(next.compressedKey, counts), frontAligned(next.compressedValue, counts)];
    const number = tf.range(0, windows, 1, 'float32');
    const last = tf.add(tf.mul(number, compressionStride), compressionLength); // position of a window's last token, plus 1
    const complete = tf.clipByValue(tf.sub(tf.reshape(counts, [batch, 1]), number), 0, 1);
    const keyPositions = tf.sub(tf.mul(complete, last), 1);
    const { output, logSumExp } = softmaxAttention(
      { query, key, value, queryPositions: places.positions, keyPositions },
      { causal: true, scale },
    );
    branches.push({ output, gate: compressedGate });
    scores = { query, compressedKey: key, logSumExp };
  }
  const blocks = chooseBlocks(scores, places.positions, cached + fresh, { batch, groups }, settings);
  const joined = {
    query,
    key: joinedColumns(state.key, inputs.key, next.key, lengths),
    value: joinedColumns(state.value, inputs.value, next.value, lengths),
  };
  const selected = gatheredAttention(joined, tokensOfBlocks(blocks, places, selectionBlock), scale);
  branches.push({ output: selected.output, gate: selectedGate });
  if (window > 0) {
    const reach = Math.min(cached, window - 1);
    const newest = (x: tf.Tensor): tf.Tensor =>
      reach === cached ? x : tf.slice(x, [0, cached - reach, 0, 0], [batch, reach + fresh, groups, x.shape[3]!]);
    const exists = existingKeys(stopGradient(state.position), reach, fresh, null);
    const near = softmaxAttention(
      { query, key: newest(joined.key), value: newest(joined.value), keyPositions: alignedPositions(exists) },
      { causal: true, window, aligned: true, scale },
    );
    branches.push({ output: near.output, gate: windowGate });
  }
  return { output: gatedSum(branches), state: next };
}
