import * as tf from '@tensorflow/tfjs-core';
import { appendKv } from '@seqloom/attention';
import { gatherRowsKernel, stopGradient, tidy } from '@seqloom/core';
import { cachePlaces, gatheredAttention, joinedColumns, tokensOfBlocks } from '../blocks/gathered-attention.ts';
import type { Heads } from '../blocks/list-attention.ts';
import { blockRotation } from './block-rotation.ts';
import type { CachedLandmarkOptions, LandmarkSettings, LandmarkState } from './landmark-attention.ts';
import { allBlocks, bestBlocks, retrieve } from './retrieval.ts';

/**
 * A state without tokens.
 *
 * @param shape batch B, key heads G, head width D, value width Dv (default D)
 */
export function emptyLandmarkState(shape: {
  readonly batch: number;
  readonly heads: number;
  readonly headDim: number;
  readonly valueDim?: number;
}): LandmarkState {
  const { batch, heads, headDim, valueDim = headDim } = shape;
  return { key: tf.zeros([batch, 0, heads, headDim]), value: tf.zeros([batch, 0, heads, valueDim]), position: tf.zeros([batch]) };
}

/**
 * Adds tokens to a state without asking anything of it: for the tokens of a prompt, once `landmarkAttention` has read them.
 *
 * @param state stays the caller's
 * @param tokens key [B, T, G, D], not rotated, and value [B, T, G, Dv]
 * @param options blockLength, rotaryBase, and `lengths` [B], valid tokens per row with padding on the right; default all
 * @returns a new state, owned by the caller
 * @throws SeqLoomError when the tokens do not fit the state
 */
export function appendLandmarkTokens(
  state: LandmarkState,
  { key, value }: Omit<Heads, 'query'>,
  { blockLength, rotaryBase = null, lengths = null }: Pick<CachedLandmarkOptions, 'blockLength' | 'rotaryBase' | 'lengths'>,
): LandmarkState {
  return tidy(() => {
    const { positions } = cachePlaces(stopGradient(state.position), 0, key.shape[1]!);
    const turned = blockRotation(key.shape[3]!, rotaryBase, blockLength)?.insideBlock(key, positions) ?? key;
    return { ...appendKv(state, { key: turned, value, lengths }) };
  });
}

/** The decode form: the own block and retrieved blocks are gathered, token by token. */
export function decodeForm(
  { query, key, value }: Heads,
  state: LandmarkState,
  settings: LandmarkSettings,
  lengths: tf.Tensor1D | null,
): { output: tf.Tensor4D; state: LandmarkState } {
  const { blockLength, retrieved, rotaryBase, scale } = settings;
  const [batch, fresh, groups, width] = key.shape as [number, number, number, number];
  const cached = state.key.shape[1]!;
  const next = appendLandmarkTokens(state, { key, value }, { blockLength, rotaryBase, lengths });
  const places = cachePlaces(stopGradient(state.position), cached, fresh);
  const { origin, positions } = places;
  const rotation = blockRotation(width, rotaryBase, blockLength);
  const turn = (x: tf.Tensor): tf.Tensor => rotation?.insideBlock(x, positions) ?? x;
  const turned = turn(query);
  const joined = {
    key: lengths ? joinedColumns(state.key, turn(key), next.key, lengths) : next.key,
    value: joinedColumns(state.value, value, next.value, lengths),
  };
  const own = tf.floor(tf.div(positions, blockLength)); // [B, T]
  const ordinary = (asking: tf.Tensor, blocks: tf.Tensor, at: tf.Tensor) =>
    gatheredAttention({ query: asking, ...joined }, tokensOfBlocks(blocks, { origin, positions: at }, blockLength, blockLength - 1), scale);
  const first = tf.add(tf.reshape(own, [batch, 1, fresh, 1]), tf.zeros([batch, groups, fresh, 1]));
  const near = ordinary(turned, first, positions);
  const total = cached + fresh;
  const earlier = Math.floor((total - 1) / blockLength);
  if (earlier === 0) return { output: near.output as tf.Tensor4D, state: next };
  const ends = tf.range(blockLength - 1, earlier * blockLength, blockLength, 'float32');
  // a row that has fewer blocks would read behind the last token
  const columns = tf.minimum(tf.add(tf.reshape(origin, [batch, 1]), ends), total - 1);
  const indices = tf.cast(tf.add(columns, tf.reshape(tf.range(0, batch * total, total, 'float32'), [batch, 1])), 'int32');
  const table = tf.reshape(joined.key, [batch * total, groups * width]);
  const landmarks = tf.reshape(gatherRowsKernel.run({ table, indices }, {}).rows, [batch, earlier, groups, width]);
  const seekers = { query: turned, landmarks, own, rotation };
  const found = retrieved === null ? allBlocks(seekers) : bestBlocks(seekers, retrieved, settings);
  const many = found.blocks.shape[3]!;
  const asked = tf.reshape(tf.add(tf.expandDims(positions, 1), tf.zeros([batch, many, fresh])), [batch, many * fresh]);
  const read = (copies: tf.Tensor, blocks: tf.Tensor): tf.Tensor => ordinary(copies, blocks, asked).output;
  return { output: retrieve(seekers, near, found, read, settings), state: next };
}
