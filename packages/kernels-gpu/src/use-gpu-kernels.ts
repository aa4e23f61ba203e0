import { submitLater } from './submit-later.ts';
import { replaceTfjsKernels } from './tfjs-kernels.ts';
import { implementBlockAttention } from './wgsl/block-attention.ts';
import { implementLinearAttention } from './wgsl/linear-attention.ts';
import { implementComplexLinearScan, implementLinearScan } from './wgsl/linear-scan.ts';
import { implementAdamWStep } from './wgsl/adamw-step.ts';
import { implementCausalConv1d } from './wgsl/causal-conv1d.ts';
import { implementRotary } from './wgsl/rotary.ts';
import { implementRows } from './wgsl/rows.ts';
import { implementSoftmaxCrossEntropy } from './wgsl/softmax-cross-entropy.ts';
import { implementTopK } from './wgsl/top-k.ts';
import { implementExpertMatMul } from './wgsl/expert-matmul.ts';
import { implementRmsNorm } from './wgsl/rms-norm.ts';
import { implementSelectiveScan } from './wgsl/selective-scan.ts';
import { implementSoftmaxAttention } from './wgsl/softmax-attention.ts';

/** Kernels in use: their label, as `explain()` shows it, and the way back. */
export interface GpuKernels {
  /** `kernels-gpu (wgsl)` */
  readonly label: string;
  /** puts tfjs's own kernels and the composed ones back */
  undo(): void;
}

/** What makes one contract's WGSL implementation; each returns how to take it away. */
const implementations: readonly ((label: string) => () => void)[] = [
  implementRmsNorm,
  implementSoftmaxAttention,
  implementLinearAttention,
  implementLinearScan,
  implementComplexLinearScan,
  implementSelectiveScan,
  implementBlockAttention,
  implementAdamWStep,
  implementCausalConv1d,
  implementRotary,
  implementRows,
  implementSoftmaxCrossEntropy,
  implementTopK,
  implementExpertMatMul,
];

/**
 * Installs the WGSL kernels for tfjs's backend `webgpu`: fused forms of core's kernel contracts, and a matrix product in the place of tfjs's.
 *
 * Nothing happens before this call. It comes after tfjs-backend-webgpu was imported, which `setupBackend('webgpu')` sees to.
 *
 * @returns the label, and `undo()`
 */
export function useGpuKernels(): GpuKernels {
  const label = 'kernels-gpu (wgsl)';
  const undo = [submitLater(), replaceTfjsKernels(), ...implementations.map((implement) => implement(label))];
  return { label, undo: () => undo.splice(0).forEach((step) => step()) };
}
