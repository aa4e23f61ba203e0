export { card as gatedLinearAttentionCard } from './card.ts';
export { gatedLinearAttention } from './gated-linear-attention.ts';
export type { GatedLinearAttentionOptions, GatedLinearAttentionTensors } from './gated-linear-attention.ts';
export { GatedLinearAttention } from './layer.ts';
export type { GatedLinearAttentionConfig } from './layer.ts';
export { naiveGatedLinearAttention } from './naive.ts';
export type { NaiveGatedInputs } from './naive.ts';
