export { tuneGpuKernels } from './tune-gpu-kernels.ts';
export type { TimedCandidate, TunedSetting, TuneOptions, TuneReport } from './tune-gpu-kernels.ts';
export { gpuTuning, useGpuKernels } from './use-gpu-kernels.ts';
export type { GpuKernels, GpuKernelsOptions } from './use-gpu-kernels.ts';
export type { AdapterClass, AttentionTile, GpuTuning, GpuTuningInUse, MatMulTile, TileNumbers } from './wgsl/tuning.ts';
export { gpuWritings } from './writings.ts';
export type { GpuWriting } from './writings.ts';
