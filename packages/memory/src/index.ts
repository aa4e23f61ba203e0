export type { Affine } from './dense.ts';
export * from './recurrent-memory-transformer/index.ts';
export * from './transformer-xl-recurrence/index.ts';
export * from './lm2/index.ts';
export * from './memformer/index.ts';
export * from './titans-neural-memory/index.ts';
export * from './memory-layers-at-scale/index.ts';
