export * from './kv-cache.ts';
