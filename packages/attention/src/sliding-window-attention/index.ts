export { card as slidingWindowAttentionCard } from './card.ts';
export * from './chunk.ts';
export * from './decode.ts';
export { SlidingWindowAttention } from './layer.ts';
export type { SlidingWindowAttentionConfig } from './layer.ts';
export * from './naive.ts';
