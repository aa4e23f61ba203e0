import { runRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';

/**
 * The chunked form, per chunk with memory S before it, b [C, K] the sums of log decays from its start, and
 * `P(X)_ij = sum over channels of X_i K_j e^(b_i - b_j)`: `A = diag(beta) tril(P(K), -1)`, `X = (I + A)^-1 diag(beta)`,
 * `D = X V - X (K e^b) S`, `O = scale ((Q e^b) S + tril(P(Q)) D)`, `S <- diag(e^(b_last)) S + (K e^(b_last - b))^T D`.
 */
export function chunkForm(tensors: RuleTensors, options: RuleOptions): RuleResult {
  return runRule('kimi-delta-attention', 'gated_delta', tensors, options);
}
