export * from './kernel-golden.ts';
export * from './kernel-parity.ts';
export * from './oracle/index.ts';
