export { card as lightningAttentionCard } from './card.ts';
export { lightningDecayRates } from './decay-rates.ts';
export type { DecayRatesConfig, DecaySchedule } from './decay-rates.ts';
export { LightningAttention } from './layer.ts';
export type { LightningAttentionConfig } from './layer.ts';
export { lightningAttention } from './lightning-attention.ts';
export type { LightningAttentionOptions, LightningAttentionTensors } from './lightning-attention.ts';
export { naiveLightningAttention } from './naive.ts';
export type { NaiveLightningInputs, NaiveLightningSettings } from './naive.ts';
