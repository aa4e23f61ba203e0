export * from './mamba-s6/index.ts';
