export { card as multiHeadAttentionCard } from './card.ts';
export * from './decode.ts';
export { MultiHeadAttention } from './layer.ts';
export type { MultiHeadAttentionConfig } from './layer.ts';
export * from './naive.ts';
export * from './parallel.ts';
