export { aaren } from './aaren.ts';
export type { AarenOptions, AarenState, AarenTensors } from './aaren.ts';
export { card as aarenCard } from './card.ts';
export { Aaren } from './layer.ts';
export type { AarenConfig } from './layer.ts';
export { naiveAaren } from './naive.ts';
export type { NaiveAaren, NaiveAarenInputs } from './naive.ts';
