export * from './landmark-attention/index.ts';
export * from './moba/index.ts';
export * from './native-sparse-attention/index.ts';
export * from './neighborhood-attention/index.ts';
export * from './routing-transformer/index.ts';
