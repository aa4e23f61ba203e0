export { card as transformerXlRecurrenceCard } from './card.ts';
export { distanceEmbedding } from './distance-embedding.ts';
export { TransformerXlRecurrence } from './layer.ts';
export type { TransformerXlRecurrenceConfig } from './layer.ts';
export { naiveTransformerXlAttention } from './naive.ts';
export type { NaiveArray, NaiveTransformerXlInputs } from './naive.ts';
export { transformerXlAttention } from './transformer-xl-recurrence.ts';
export type { TransformerXlInputs, TransformerXlSettings } from './transformer-xl-recurrence.ts';
