export { card as mamba2SsdCard } from './card.ts';
export { Mamba2 } from './layer.ts';
export type { Mamba2Config } from './layer.ts';
export { stateSpaceDuality } from './mamba2-ssd.ts';
export type { DualitySettings, DualityState, DualityTensors } from './mamba2-ssd.ts';
export { naiveStateSpaceDuality } from './naive.ts';
export type { NaiveDualityInputs, NaiveDualitySettings } from './naive.ts';
