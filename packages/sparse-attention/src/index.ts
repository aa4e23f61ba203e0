export * from './neighborhood-attention/index.ts';
