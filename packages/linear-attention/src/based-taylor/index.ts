export { card as basedTaylorCard } from './card.ts';
export { BasedTaylor } from './layer.ts';
export type { BasedTaylorConfig } from './layer.ts';
export { naiveTaylorAttention } from './naive.ts';
export type { NaiveTaylorInputs, NaiveTaylorSettings } from './naive.ts';
export { taylorAttention } from './op.ts';
export type { TaylorAttentionSettings } from './op.ts';
