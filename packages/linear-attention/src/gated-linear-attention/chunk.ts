import { runRule } from '../rule/run-rule.ts';
import type { RuleOptions, RuleResult, RuleTensors } from '../rule/run-rule.ts';

/**
 * The chunked form: `O = (Q e^b) S + P V`, then `S <- e^(b of the whole chunk) S + (K decayed to the end)^T V`.
 *
 * b are sums of log decays from the chunk's start; the decayed scores P come from halves that decay towards their middle.
 */
export function chunkForm(mechanism: string, tensors: RuleTensors, options: RuleOptions): RuleResult {
  return runRule(mechanism, 'gated', tensors, { ...options, form: 'chunk' });
}
