export * from './based-taylor/index.ts';
export * from './delta-net/index.ts';
export * from './gated-delta-net/index.ts';
export * from './gated-linear-attention/index.ts';
export * from './hgrn/index.ts';
export * from './jrt-prefix-linear-attention/index.ts';
export * from './linear-attention/index.ts';
export type { RuleOptions, RuleResult, RuleState, RuleTensors } from './rule/run-rule.ts';
export * from './retention/index.ts';
