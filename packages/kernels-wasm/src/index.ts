export type { Build } from './load.ts';
export { useWasmKernels } from './use-wasm-kernels.ts';
export type { WasmKernels } from './use-wasm-kernels.ts';
