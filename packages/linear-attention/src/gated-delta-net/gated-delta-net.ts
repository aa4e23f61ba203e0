import { tidy } from '@seqloom/core';
import type { RuleOptions, RuleResult } from '../rule/run-rule.ts';
import { chunkForm } from './chunk.ts';
import { recurrentForm } from './recurrent.ts';
import { groupByValue } from './value-groups.ts';
import type { GatedDeltaTensors } from './value-groups.ts';

/**
 * The gated delta rule: the memory decays, then the token corrects what is left of it at its key,
 * `S_t = e^g_t S_{t-1} + beta_t k_t (v_t - e^g_t S_{t-1}^T k_t)^T`, and reads `o_t = scale S_t^T q_t`.
 *
 * @param tensors query and key [B, T, H, K], keys of length one, value [B, T, Hv, V], logDecay and beta [B, T, Hv]; Hv is a multiple of H
 * @param options state (`memory` [B, Hv, K, V]), scale (K^-0.5), form (chunk), chunkSize (64), mask [B, T]
 * @returns output [B, T, Hv, V] and state; the caller owns both
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464
 */
export function gatedDeltaRule(tensors: GatedDeltaTensors, options: RuleOptions = {}): RuleResult {
  return tidy(() => {
    const grouped = groupByValue('gated-delta-net', tensors, ['B', 'T', 'Hv']);
    return options.form === 'recurrent' ? recurrentForm(grouped, options) : chunkForm(grouped, options);
  });
}
