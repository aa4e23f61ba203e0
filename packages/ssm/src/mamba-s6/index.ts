export { card as mambaS6Card } from './card.ts';
export { Mamba } from './layer.ts';
export type { MambaConfig } from './layer.ts';
export { selectiveStateSpace } from './mamba-s6.ts';
export type { SelectiveSettings, SelectiveState, SelectiveTensors } from './mamba-s6.ts';
export { naiveSelectiveStateSpace } from './naive.ts';
export type { NaiveSelectiveInputs } from './naive.ts';
