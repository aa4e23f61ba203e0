// what the tests of tunings need of a page
import { setupBackend } from '@seqloom/core';
import { gpuTuning, tuneGpuKernels, useGpuKernels } from '@seqloom/kernels-gpu';
import type { GpuTuningInUse, TuneReport } from '@seqloom/kernels-gpu';

/** The page's global. */
export interface TuningPage {
  /** sets WebGPU up and says how its kernels are written, and what the adapter offers */
  setUp(): Promise<{ inUse: GpuTuningInUse; features: string[] }>;
  measure(): Promise<TuneReport>;
}

const tuning: TuningPage = {
  async setUp() {
    await setupBackend('webgpu', { kernels: [useGpuKernels], strict: true });
    const adapter = await navigator.gpu.requestAdapter();
    return { inUse: gpuTuning()!, features: [...(adapter?.features ?? [])] };
  },
  measure: () => tuneGpuKernels({ seconds: 0.1, settings: ['subgroups'], margin: 0 }),
};
Object.assign(globalThis, { tuning });
document.title = 'ready';
