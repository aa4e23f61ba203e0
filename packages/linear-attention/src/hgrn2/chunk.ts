import { runRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';

/** The chunked form: that of gated linear attention, with the key 1 - f. */
export function chunkForm(mechanism: string, tensors: RuleTensors, options: RuleOptions): RuleResult {
  return runRule(mechanism, 'gated', tensors, { ...options, form: 'chunk' });
}
