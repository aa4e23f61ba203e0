import { runRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';

/** The recurrent form, token by token: `S <- diag(e^g) S`, `d = beta (v - S^T k)`, `S <- S + k d^T`, `o = scale S^T q`. */
export function recurrentForm(tensors: RuleTensors, options: RuleOptions): RuleResult {
  return runRule('kimi-delta-attention', 'gated_delta', tensors, { ...options, form: 'recurrent' });
}
