export { card as kimiDeltaAttentionCard } from './card.ts';
export { kimiDeltaAttention } from './kimi-delta-attention.ts';
export { KimiDeltaAttention } from './layer.ts';
export type { KimiDeltaAttentionConfig } from './layer.ts';
export { naiveKimiDeltaAttention } from './naive.ts';
export type { NaiveKimiDeltaInputs } from './naive.ts';
