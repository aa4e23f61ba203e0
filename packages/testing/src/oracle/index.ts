/** Float64 specifications of the kernel contracts on plain typed arrays. */
export * from './array64.ts';
export * from './linear-attention.ts';
export * from './matmul.ts';
export * from './softmax-attention.ts';
export * from './rms-norm.ts';
export * from './rows.ts';
export * from './softmax-cross-entropy.ts';
export * from './adamw-step.ts';
export * from './rotary.ts';
export * from './causal-conv1d.ts';
export * from './linear-scan.ts';
export * from './selective-scan.ts';
export * from './numerics.ts';
export * from './top-k.ts';
export * from './block-attention.ts';
export * from './expert-matmul.ts';
