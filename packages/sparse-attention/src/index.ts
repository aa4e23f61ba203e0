export * from './moba/index.ts';
export * from './neighborhood-attention/index.ts';
