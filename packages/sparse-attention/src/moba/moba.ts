import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Heads } from '../blocks/list-attention.ts';
import { chunkForm } from './chunk.ts';
import { decodeForm } from './decode.ts';

const MECHANISM = 'moba';

/** Keys, values and mean keys of the tokens so far, right aligned: a state record that never changes. */
export type MobaState = {
  /** [B, L, G, D], at most `position` of them in use, the last ones */
  readonly key: tf.Tensor;
  /** [B, L, G, Dv] */
  readonly value: tf.Tensor;
  /** [B, floor(L / blockSize), G, D], the mean key of every complete block */
  readonly blockKey: tf.Tensor;
  /** [B], tokens seen per row */
  readonly position: tf.Tensor;
};

/** Settings of `mobaAttention`. */
export interface MobaOptions {
  /** B, tokens per block */
  readonly blockSize: number;
  /** k, blocks that a query reads, its own included */
  readonly topK: number;
  /** factor on the scores; default D^-0.5 */
  readonly scale?: number | undefined;
}

/** Settings of `cachedMobaAttention`. */
export interface CachedMobaOptions extends MobaOptions {
  /** [B], valid new tokens per row, with padding on the right; default all */
  readonly lengths?: tf.Tensor1D | null | undefined;
}

/** Checks the tensors and settings of a call. */
function checkCall({ query, key, value }: Heads, options: MobaOptions, batch: string | number, tokens: string): Required<MobaOptions> {
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, [batch, tokens, 'heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'key', key, [batch, tokens, 'key heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'value', value, [batch, tokens, 'key heads', 'value dim'], extents);
  const [heads, groups] = [query.shape[2]!, key.shape[2]!];
  checkSetting(MECHANISM, 'key', heads % groups === 0, `of as many heads as divide ${heads}`, groups, 'Repeat or drop key heads.');
  for (const name of ['blockSize', 'topK'] as const) {
    const given = options?.[name];
    checkSetting(MECHANISM, name, Number.isInteger(given) && given > 0, 'a whole number of at least 1', given, 'Usual: 512 and 3.');
  }
  const { blockSize, topK, scale = query.shape[3]! ** -0.5 } = options;
  checkSetting(MECHANISM, 'scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for 1 / sqrt(D).');
  return { blockSize, topK, scale };
}

/**
 * Mixture of block attention of a whole sequence: `o_i = sum_j softmax_j(scale q_i·k_j) v_j` over the keys j <= i of the block of i and
 * of the k - 1 earlier blocks with the largest `q_i·mean(keys of the block)`.
 *
 * Every query head chooses for itself. The choice is a constant of the gradient, as in the paper; blocks that are not chosen are not read.
 *
 * @param heads query [B, T, H, D], key [B, T, G, D], value [B, T, G, Dv], float32, with positions in them; G divides H
 * @param options blockSize and topK, scale
 * @returns output [B, T, H, Dv], owned by the caller
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 * @see Lu et al. 2025, arXiv 2502.13189
 */
export function mobaAttention(heads: Heads, options: MobaOptions): { output: tf.Tensor4D } {
  const settings = checkCall(heads, options, 'batch', 'tokens');
  return tidy(() => ({ output: chunkForm(heads, settings) }));
}

/**
 * The same for one or more new tokens against a cache: reads the mean keys, and the keys and values of chosen blocks alone.
 *
 * @param heads of the new tokens; rows may have padding on the right (`lengths`), where the output is arbitrary
 * @param state from `emptyMobaState` or an earlier call; stays the caller's
 * @param options blockSize and topK, scale, lengths
 * @returns output [B, T, H, Dv] and the state after the new tokens, both owned by the caller
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 * @see Lu et al. 2025, arXiv 2502.13189
 */
export function cachedMobaAttention(heads: Heads, state: MobaState, options: CachedMobaOptions): { output: tf.Tensor4D; state: MobaState } {
  const settings = checkCall(heads, options, state.position.shape[0]!, 'tokens');
  return tidy(() => decodeForm(heads, state, settings, options.lengths ?? null));
}
