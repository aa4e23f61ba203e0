export { card as landmarkAttentionCard } from './card.ts';
export { appendLandmarkTokens, emptyLandmarkState } from './decode.ts';
export * from './insert-landmarks.ts';
export { cachedLandmarkAttention, landmarkAttention } from './landmark-attention.ts';
export type { CachedLandmarkOptions, LandmarkOptions, LandmarkState } from './landmark-attention.ts';
export { LandmarkAttention } from './layer.ts';
export type { LandmarkAttentionConfig } from './layer.ts';
export { naiveLandmarkAttention } from './naive.ts';
export type { NaiveLandmarkInputs, NaiveLandmarkSettings } from './naive.ts';
