import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting } from '@seqloom/core';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';
import { chunkForm } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';

/** Tensors that `gatedLinearAttention` reads, all float32. */
export interface GatedLinearAttentionTensors extends RuleTensors {
  /** log of the forget gate, at most 0, per key channel [B, T, H, K] or per head [B, T, H]; minus infinity forgets everything */
  readonly logDecay: tf.Tensor;
}

/** Options of `gatedLinearAttention`: state, scale, form, chunkSize, mask. */
export type GatedLinearAttentionOptions = RuleOptions;

const MECHANISM = 'gated-linear-attention';

/**
 * Gated linear attention: a matrix-valued memory whose rows decay by gates that the data sets.
 *
 * `S_t = diag(exp(logDecay_t)) S_{t-1} + k_t v_t^T`, `o_t = scale S_t^T q_t`. With decays per head it is what the field calls simple GLA.
 *
 * @param tensors query [B, T, Hq, K], key [B, T, H, K], value [B, T, H, V], logDecay [B, T, H, K] or [B, T, H] (natural log, at most 0);
 *   Hq is a multiple of H
 * @param options state of an earlier call, scale (K^-0.5), form (chunk), chunkSize (64), mask [B, T]
 * @returns output [B, T, Hq, V] and the state after the last token, `memory` [B, H, K, V]; both are the caller's to dispose
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Yang et al. 2023, arXiv 2312.06635
 */
export function gatedLinearAttention(tensors: GatedLinearAttentionTensors, options: GatedLinearAttentionOptions = {}): RuleResult {
  const { form = 'chunk' } = options;
  checkSetting(MECHANISM, 'form', form === 'chunk' || form === 'recurrent', 'chunk or recurrent', form, 'Leave it out for chunk.');
  return form === 'recurrent' ? recurrentForm(MECHANISM, tensors, options) : chunkForm(MECHANISM, tensors, options);
}
