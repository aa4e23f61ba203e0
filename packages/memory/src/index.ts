export * from './recurrent-memory-transformer/index.ts';
export * from './transformer-xl-recurrence/index.ts';
