/**
 * The gated delta rule of Gated DeltaNet, the specification in double precision.
 *
 * Glossary (Yang, Kautz & Hatamizadeh 2024, section 3.1; one head, S is the transpose of the paper's)
 *   query, key   q_t, k_t        [B, T, H, K]; value head h uses query and key head floor(h H / Hv)
 *   value        v_t             [B, T, Hv, V]
 *   logDecay     log alpha_t     [B, T, Hv], at most 0
 *   beta         beta_t          [B, T, Hv], strength of the write
 *   memory       S_t             [B, Hv, K, V]
 *   faded        S~_t            alpha_t S_{t-1}
 *   recalled                     S~_t^T k_t: what the decayed memory holds at the key
 *   S            S_t             S~_t + beta_t k_t (v_t - S~_t^T k_t)^T = alpha_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T
 *   output       o_t             scale S_t^T q_t
 */
import type { Array64 } from '@seqloom/core';
import { naiveDecayedDelta } from '../rule/naive-decayed-delta.ts';
import type { NaiveDecayedDeltaInputs } from '../rule/naive-decayed-delta.ts';

/** Inputs of `naiveGatedDeltaRule`; a masked token neither fades nor writes. */
export type NaiveGatedDeltaInputs = NaiveDecayedDeltaInputs;

/** Output [B, T, Hv, V] and memory after the last token [B, Hv, K, V]; scale is K^-0.5 when left out. */
export function naiveGatedDeltaRule(inputs: NaiveGatedDeltaInputs, scale?: number): { output: Array64; memory: Array64 } {
  return naiveDecayedDelta(inputs, scale);
}
