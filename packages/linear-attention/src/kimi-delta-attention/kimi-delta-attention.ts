import { tidy } from '@seqloom/core';
import { groupByValue } from '../gated-delta-net/value-groups.ts';
import type { GatedDeltaTensors } from '../gated-delta-net/value-groups.ts';
import type { RuleOptions, RuleResult } from '../rule/run-rule.ts';
import { chunkForm } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';

/**
 * Kimi Delta Attention: every key channel of the memory decays at its own pace, then the token corrects what is left at its key,
 * `S_t = diag(e^g_t) S_{t-1} + beta_t k_t (v_t - (diag(e^g_t) S_{t-1})^T k_t)^T`, and reads `o_t = scale S_t^T q_t`.
 *
 * @param tensors query and key [B, T, H, K], keys of length one, value [B, T, Hv, V], logDecay [B, T, Hv, K], beta [B, T, Hv]; Hv is a
 *   multiple of H
 * @param options state (`memory` [B, Hv, K, V]), scale (K^-0.5), form (chunk), chunkSize (64), mask [B, T]
 * @returns output [B, T, Hv, V] and state; the caller owns both
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Kimi Team 2025, arXiv 2510.26692
 */
export function kimiDeltaAttention(tensors: GatedDeltaTensors, options: RuleOptions = {}): RuleResult {
  return tidy(() => {
    const grouped = groupByValue('kimi-delta-attention', tensors, ['B', 'T', 'Hv', 'K']);
    return options.form === 'recurrent' ? recurrentForm(grouped, options) : chunkForm(grouped, options);
  });
}
