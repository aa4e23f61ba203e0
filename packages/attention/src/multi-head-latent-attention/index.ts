export { card as multiHeadLatentAttentionCard } from './card.ts';
export { MultiHeadLatentAttention } from './layer.ts';
export type { MultiHeadLatentAttentionConfig } from './layer.ts';
export * from './multi-head-latent-attention.ts';
export * from './naive.ts';
