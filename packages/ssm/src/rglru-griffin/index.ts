export { card as rglruGriffinCard } from './card.ts';
export { GriffinRecurrence } from './layer.ts';
export type { GriffinRecurrenceConfig } from './layer.ts';
export { naiveRgLru } from './naive.ts';
export type { NaiveRgLruInputs } from './naive.ts';
export { rgLru } from './rglru-griffin.ts';
export type { RgLruSettings, RgLruState, RgLruTensors } from './rglru-griffin.ts';
