import { runRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';

/**
 * The chunked form, per chunk with memory S before it: `A = diag(beta) tril(K K^T, -1)`, `X = (I + A)^-1 diag(beta)`,
 * `D = X V - X K S` (all corrections of the chunk), `O = scale (Q S + tril(Q K^T) D)`, `S <- S + K^T D`.
 */
export function chunkForm(tensors: RuleTensors, options: RuleOptions): RuleResult {
  return runRule('delta-net', 'delta', tensors, options);
}
