export { MemoryLayer } from './layer.ts';
export type { MemoryLayerConfig } from './layer.ts';
export { productKeyMemory } from './memory-layers-at-scale.ts';
export type { ProductKeyInputs, ProductKeyOptions } from './memory-layers-at-scale.ts';
export { MemoryTable } from './memory-table.ts';
export type { MemoryTableConfig, RowGradients } from './memory-table.ts';
export type { ChosenSlots } from './select-slots.ts';
export { SparseAdamW } from './sparse-adamw.ts';
export type { SparseAdamWOptions, SparseStep } from './sparse-adamw.ts';
