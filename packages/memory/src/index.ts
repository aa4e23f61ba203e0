export * from './recurrent-memory-transformer/index.ts';
