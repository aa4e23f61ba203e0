export * from './absolute.ts';
export * from './alibi.ts';
export { card as positionalEncodingsCard } from './card.ts';
export * from './naive.ts';
export * from './parallel.ts';
export { rotaryAngles } from './rotary-angles.ts';
export type { Positions, RotaryAngles } from './rotary-angles.ts';
export * from './rotary-frequencies.ts';
