export { card as mobaCard } from './card.ts';
export { appendMobaTokens, emptyMobaState } from './decode.ts';
export { MobaAttention } from './layer.ts';
export type { MobaAttentionConfig } from './layer.ts';
export { cachedMobaAttention, mobaAttention } from './moba.ts';
export type { CachedMobaOptions, MobaOptions, MobaState } from './moba.ts';
export { naiveMoba } from './naive.ts';
export type { NaiveMobaInputs, NaiveMobaSettings } from './naive.ts';
