import { runRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';

/**
 * The chunked form, per chunk with memory S before it, b the sums of log decays from its start, `G_ij = exp(b_i - b_j)` for i >= j:
 * `A = diag(beta) tril(K K^T * G, -1)`, `X = (I + A)^-1 diag(beta)`, `D = X V - X (diag(e^b) K) S`,
 * `O = scale (diag(e^b) Q S + tril(Q K^T * G) D)`, `S <- e^(b_last) S + (diag(e^(b_last - b)) K)^T D`.
 */
export function chunkForm(tensors: RuleTensors, options: RuleOptions): RuleResult {
  return runRule('gated-delta-net', 'gated_delta', tensors, options);
}
