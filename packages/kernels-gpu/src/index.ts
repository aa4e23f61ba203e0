export { useGpuKernels } from './use-gpu-kernels.ts';
export type { GpuKernels } from './use-gpu-kernels.ts';
