import type * as tf from '@tensorflow/tfjs-core';

/** Which triangle of scores is wanted: a query sees its own token, a delta rule's key does not. */
export type ScoreTriangle = 'lower' | 'strictly-lower';

/**
 * The decays inside every chunk, and their adjoints.
 *
 * Glossary: M chunks of C tokens; g_t log decay of token t; rows are `group` query heads per token, [M, C * group, D]. Forward methods
 * read; methods on `Gradient` return the gradient of their tensor argument and add up the gradient of g for `logDecay()`.
 */
export interface ChunkDecay {
  /** rows times exp(g_1 + ... + g_t): what the entering state has lost when token t reads it */
  fromStart(rows: tf.Tensor3D, group: number): tf.Tensor3D;
  /** keys times exp(g_{t+1} + ... + g_C): what token t's contribution has lost when the chunk ends */
  toEnd(key: tf.Tensor3D): tf.Tensor3D;
  /** exp(g_1 + ... + g_C), the factor of the state over a chunk, [M, 1 or D, 1]; undefined where nothing decays */
  readonly whole: tf.Tensor3D | undefined;
  /** scores_ij = sum_d rows_id exp(g_{j+1} + ... + g_i)_d key_jd on the triangle, 0 elsewhere, [M, C * group, C] */
  scores(rows: tf.Tensor3D, key: tf.Tensor3D, group: number, triangle: ScoreTriangle): tf.Tensor3D;

  fromStartGradient(upstream: tf.Tensor3D, decayed: tf.Tensor3D, group: number): tf.Tensor3D;
  toEndGradient(upstream: tf.Tensor3D, decayed: tf.Tensor3D): tf.Tensor3D;
  /** `upstream` is the gradient of `whole` times `whole`, [M, D, 1] */
  wholeGradient(upstream: tf.Tensor3D): void;
  scoresGradient(call: ScoresGradientCall): { rows: tf.Tensor3D; key: tf.Tensor3D };
  /** gradient of the log decays, [M, C, 1 or D], once all other gradients were taken */
  logDecayGradient(): tf.Tensor3D | undefined;
}

/** Arguments of `ChunkDecay.scoresGradient`. */
export interface ScoresGradientCall {
  readonly upstream: tf.Tensor3D;
  readonly scores: tf.Tensor3D;
  readonly rows: tf.Tensor3D;
  readonly key: tf.Tensor3D;
  readonly group: number;
  readonly triangle: ScoreTriangle;
}
