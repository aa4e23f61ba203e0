export { card as jrtPrefixLinearAttentionCard } from './card.ts';
export { prefixLinearAttention } from './jrt-prefix-linear-attention.ts';
export type { PrefixOptions, PrefixTensors } from './jrt-prefix-linear-attention.ts';
export { PrefixLinearAttention } from './layer.ts';
export type { PrefixLinearAttentionConfig } from './layer.ts';
export { naivePrefixLinearAttention } from './naive.ts';
export type { NaivePrefixInputs, NaivePrefixSettings } from './naive.ts';
