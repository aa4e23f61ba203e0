/** The kernel contracts in gpu.js on plain Float32Arrays, without tfjs. */
export type { GpujsArray, HostArray } from './array.ts';
export { linearScan, linearScanGradient } from './linear-scan.ts';
export type { LinearScanGradientInputs, LinearScanInputs, LinearScanOptions } from './linear-scan.ts';
export type { DeviceBuffer } from './load.ts';
export { matmul, matmulGradient } from './matmul.ts';
export type { MatmulInputs, MatmulOptions } from './matmul.ts';
export { rmsNorm, rmsNormGradient } from './rms-norm.ts';
export type { RmsNormInputs, RmsNormOptions } from './rms-norm.ts';
export { createGpujs, free } from './run.ts';
export type { Gpujs, GpujsMode, GpujsSettings, Placement, PlanReport } from './run.ts';
export { fromTensor, toTensor } from './tensor.ts';
export type { LentTensor } from './tensor.ts';
