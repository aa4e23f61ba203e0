export * from './based-taylor/index.ts';
export * from './gated-linear-attention/index.ts';
export * from './hgrn/index.ts';
export * from './linear-attention/index.ts';
