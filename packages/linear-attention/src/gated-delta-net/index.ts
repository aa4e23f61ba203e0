export { card as gatedDeltaNetCard } from './card.ts';
export { gatedDeltaRule } from './gated-delta-net.ts';
export { GatedDeltaNet } from './layer.ts';
export type { GatedDeltaNetConfig } from './layer.ts';
export { naiveGatedDeltaRule } from './naive.ts';
export type { NaiveGatedDeltaInputs } from './naive.ts';
export type { GatedDeltaTensors } from './value-groups.ts';
