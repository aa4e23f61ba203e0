export { card as deltaNetCard } from './card.ts';
export { deltaRule } from './delta-net.ts';
export type { DeltaRuleTensors } from './delta-net.ts';
export { DeltaNet } from './layer.ts';
export type { DeltaNetConfig } from './layer.ts';
export { naiveDeltaRule } from './naive.ts';
export type { NaiveDeltaInputs } from './naive.ts';
