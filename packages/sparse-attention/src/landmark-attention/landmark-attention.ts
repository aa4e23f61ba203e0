import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Heads } from '../blocks/list-attention.ts';
import { chunkForm } from './chunk.ts';
import { decodeForm } from './decode.ts';

const MECHANISM = 'landmark-attention';

/** Keys and values of the tokens so far, right aligned: a state record that never changes. */
export type LandmarkState = {
  /** [B, L, G, D], turned by their places in their blocks; at most `position` of them in use, the last ones */
  readonly key: tf.Tensor;
  /** [B, L, G, Dv] */
  readonly value: tf.Tensor;
  /** [B], tokens seen per row */
  readonly position: tf.Tensor;
};

/** Settings of landmark attention. */
export interface LandmarkOptions {
  /** tokens per block, its landmark included: tokens at positions p with (p + 1) % blockLength = 0 are landmarks */
  readonly blockLength: number;
  /** earlier blocks that each query head retrieves; default null, all of them: the grouped softmax of training */
  readonly retrieved?: number | null | undefined;
  /** base of the rotary positions; default null: query and key are used as they are */
  readonly rotaryBase?: number | null | undefined;
  /** where retrieved blocks stand: at their true distance, or in the k + 1 slots before the own block; default absolute */
  readonly positions?: 'absolute' | 'stingy' | undefined;
  /** factor on the scores; default D^-0.5 */
  readonly scale?: number | undefined;
}

/** Settings of `cachedLandmarkAttention`. */
export interface CachedLandmarkOptions extends LandmarkOptions {
  /** [B], valid new tokens per row, with padding on the right; default all */
  readonly lengths?: tf.Tensor1D | null | undefined;
}

/** Settings with defaults filled in. */
export type LandmarkSettings = { readonly [K in keyof LandmarkOptions]-?: Exclude<LandmarkOptions[K], undefined> };

function checkCall({ query, key, value }: Heads, options: LandmarkOptions, batch: string | number): LandmarkSettings {
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'query', query, [batch, 'tokens', 'heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'key', key, [batch, 'tokens', 'key heads', 'head dim'], extents);
  checkTensor(MECHANISM, 'value', value, [batch, 'tokens', 'key heads', 'value dim'], extents);
  const [heads, groups, width] = [query.shape[2]!, key.shape[2]!, query.shape[3]!];
  checkSetting(MECHANISM, 'key', heads % groups === 0, `of as many heads as divide ${heads}`, groups, 'Repeat or drop key heads.');
  const { blockLength, retrieved = null, rotaryBase = null, positions = 'absolute', scale = width ** -0.5 } = options;
  const whole = (given: unknown, least: number): boolean => Number.isInteger(given) && (given as number) >= least;
  checkSetting(MECHANISM, 'blockLength', whole(blockLength, 2), 'a whole number of at least 2', blockLength, 'Usual: 50 or 64.');
  checkSetting(
    MECHANISM,
    'retrieved',
    retrieved === null || whole(retrieved, 1),
    'a whole number of at least 1, or null',
    retrieved,
    'Usual: 2 to 8; null attends to all blocks.',
  );
  checkSetting(
    MECHANISM,
    'rotaryBase',
    rotaryBase === null || (rotaryBase > 0 && width % 2 === 0),
    `a number above 0 with an even head width, or null`,
    rotaryBase,
    'Rotary positions turn pairs of channels.',
  );
  checkSetting(MECHANISM, 'scale', Number.isFinite(scale), 'a finite number', scale, 'Leave it out for 1 / sqrt(D).');
  return { blockLength, retrieved, rotaryBase, positions, scale };
}

/**
 * Landmark attention of a whole sequence, in which the last token of every block is its landmark.
 *
 * A query attends to the ordinary tokens of its own block and to the landmarks of earlier blocks in one softmax; the weight of a landmark
 * goes to the ordinary tokens of its block, by a softmax of their own: `o_i = sum_own p_ij v_j + sum_b p_i,land(b) sum_G_b p_ij v_j`.
 * With `retrieved` only the blocks with the best landmarks take part, a choice without gradient.
 *
 * @param heads query [B, T, H, D], key [B, T, G, D], value [B, T, G, Dv], float32; G divides H
 * @param options blockLength, retrieved, rotaryBase, positions, scale
 * @returns output [B, T, H, Dv], owned by the caller; at landmarks too, where a language model discards it
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 * @see Mohtashami and Jaggi 2023, arXiv 2305.16300
 */
export function landmarkAttention(heads: Heads, options: LandmarkOptions): { output: tf.Tensor4D } {
  const settings = checkCall(heads, options, 'batch');
  return tidy(() => ({ output: chunkForm(heads, settings) }));
}

/**
 * The same for one or more new tokens against a cache: with `retrieved` it reads the landmarks, and the tokens of the own and of
 * retrieved blocks alone.
 *
 * @param heads of the new tokens, not rotated; rows may have padding on the right (`lengths`), where the output is arbitrary
 * @param state from `emptyLandmarkState` or an earlier call with the same blockLength and rotaryBase; stays the caller's
 * @param options as for the whole sequence, and lengths
 * @returns output [B, T, H, Dv] and the state after the new tokens, both owned by the caller
 * @throws SeqLoomError when a shape, dtype or setting does not fit
 * @see Mohtashami and Jaggi 2023, arXiv 2305.16300
 */
export function cachedLandmarkAttention(
  heads: Heads,
  state: LandmarkState,
  options: CachedLandmarkOptions,
): { output: tf.Tensor4D; state: LandmarkState } {
  const settings = checkCall(heads, options, state.position.shape[0]!);
  return tidy(() => decodeForm(heads, state, settings, options.lengths ?? null));
}
