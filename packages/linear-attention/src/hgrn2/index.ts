export { card as hgrn2Card } from './card.ts';
export { hgrn2 } from './hgrn2.ts';
export type { Hgrn2Options, Hgrn2Tensors } from './hgrn2.ts';
export { Hgrn2 } from './layer.ts';
export type { Hgrn2Config } from './layer.ts';
export { naiveForgetGate, naiveHgrn2 } from './naive.ts';
export type { NaiveHgrn2Inputs } from './naive.ts';
