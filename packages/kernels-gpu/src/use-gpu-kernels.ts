import { replaceTfjsKernels } from './tfjs-kernels.ts';
import { implementRmsNorm } from './wgsl/rms-norm.ts';
import { implementSoftmaxAttention } from './wgsl/softmax-attention.ts';

/** Kernels in use: their label, as `explain()` shows it, and the way back. */
export interface GpuKernels {
  /** `kernels-gpu (wgsl)` */
  readonly label: string;
  /** puts tfjs's own kernels and the composed ones back */
  undo(): void;
}

/** What makes one contract's WGSL implementation; each returns how to take it away. */
const implementations: readonly ((label: string) => () => void)[] = [implementRmsNorm, implementSoftmaxAttention];

/**
 * Installs the WGSL kernels for tfjs's backend `webgpu`: fused forms of core's kernel contracts, and a matrix product in the place of tfjs's.
 *
 * Nothing happens before this call. It comes after tfjs-backend-webgpu was imported, which `setupBackend('webgpu')` sees to.
 *
 * @returns the label, and `undo()`
 */
export function useGpuKernels(): GpuKernels {
  const label = 'kernels-gpu (wgsl)';
  const undo = [replaceTfjsKernels(), ...implementations.map((implement) => implement(label))];
  return { label, undo: () => undo.splice(0).forEach((step) => step()) };
}
