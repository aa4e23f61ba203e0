export * from './mamba-s6/index.ts';
export * from './mamba2-ssd/index.ts';
export * from './short-causal-conv1d/index.ts';
export * from './parallel-scan/index.ts';
export * from './rglru-griffin/index.ts';
export * from './s4d-s5-diagonal-ssm/index.ts';
