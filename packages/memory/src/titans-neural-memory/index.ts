export type { MemoryActivation } from './network.ts';
export { publishedTitansLinear } from './published-linear.ts';
export type { PublishedTitansLinearInputs } from './published-linear.ts';
export { titansNeuralMemory } from './titans-neural-memory.ts';
export type { TitansInputs, TitansOptions, TitansState } from './titans-neural-memory.ts';
