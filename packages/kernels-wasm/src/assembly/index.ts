export * from './tile';
export * from './gemm';
export * from './epilogue';
