import type * as tf from '@tensorflow/tfjs-core';
import type { RuleOptions, RuleResult } from '../rule/run-rule.ts';
import { chunkForm } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors of `deltaRule`, all float32. */
export interface DeltaRuleTensors {
  /** [B, T, Hq, K]; query head h reads memory head floor(h * H / Hq) */
  readonly query: tf.Tensor;
  /** [B, T, H, K], of length one: the op does not normalise */
  readonly key: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
  /** [B, T, H], from 0 to 2: the share of the old value at the key that the new one replaces; above 2 the memory diverges */
  readonly beta: tf.Tensor;
}

/**
 * The delta rule: every token corrects what the memory holds at its key, `S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T`, and reads
 * `o_t = scale S_t^T q_t`.
 *
 * @param tensors query [B, T, Hq, K], key [B, T, H, K] of length one, value [B, T, H, V], beta [B, T, H]; Hq is a multiple of H
 * @param options state (`memory` [B, H, K, V]), scale (K^-0.5), form (chunk), chunkSize (64), mask [B, T]
 * @returns output [B, T, Hq, V] and state; the caller owns both
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Yang et al. 2024, arXiv 2406.06484; the rule is that of Schlag et al. 2021, arXiv 2102.11174
 */
export function deltaRule(tensors: DeltaRuleTensors, options: RuleOptions = {}): RuleResult {
  return options.form === 'recurrent' ? recurrentForm(tensors, options) : chunkForm(tensors, options);
}
