import { runRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';

/** The recurrent form, token by token: `S <- diag(f_t) S + (1 - f_t) v_t^T`, `o_t = scale S^T q_t`. */
export function recurrentForm(mechanism: string, tensors: RuleTensors, options: RuleOptions): RuleResult {
  return runRule(mechanism, 'gated', tensors, { ...options, form: 'recurrent' });
}
