export { card as ratCard } from './card.ts';
export type { RatState } from './chunk-cache.ts';
export type { RatResult } from './chunk.ts';
export { Rat } from './layer.ts';
export type { RatConfig } from './layer.ts';
export { naiveRat } from './naive.ts';
export type { NaiveRat, NaiveRatInputs, NaiveRatSettings } from './naive.ts';
export { rat } from './rat.ts';
export type { RatOptions, RatTensors } from './rat.ts';
