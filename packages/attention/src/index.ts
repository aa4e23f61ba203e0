export * from './kv-cache/index.ts';
export * from './mha-mqa-gqa/index.ts';
export * from './multi-head-latent-attention/index.ts';
export * from './positional-encodings/index.ts';
export * from './sliding-window-attention/index.ts';
