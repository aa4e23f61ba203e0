export { card as hgrnCard } from './card.ts';
export { hgrn, hgrnComplex } from './hgrn.ts';
export type { HgrnComplexState, HgrnComplexTensors, HgrnOptions, HgrnState, HgrnTensors } from './hgrn.ts';
export { Hgrn } from './layer.ts';
export type { HgrnConfig } from './layer.ts';
export { HgrnLowerBounds } from './lower-bounds.ts';
export { naiveHgrn, naiveHgrnComplex, naiveLowerBounds } from './naive.ts';
export type { NaiveHgrnComplexInputs, NaiveHgrnInputs, NaiveHgrnPattern } from './naive.ts';
