export { card as recurrentMemoryTransformerCard } from './card.ts';
export { RecurrentMemoryTransformer } from './layer.ts';
export type { RecurrentMemoryTransformerConfig } from './layer.ts';
export { naiveRecurrentMemory, naiveSegments } from './naive.ts';
export type { NaiveRecurrentMemorySettings, NaiveRows } from './naive.ts';
export { recurrentMemory } from './recurrent-memory-transformer.ts';
export type { RecurrentMemorySettings } from './recurrent-memory-transformer.ts';
export { TransformerStack } from './transformer-stack.ts';
export type { TransformerStackConfig } from './transformer-stack.ts';
