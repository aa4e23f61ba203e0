import { sharedWebGpuDevice } from '@seqloom/core/web-gpu';
import * as tf from '@tensorflow/tfjs-core';
import { reasonOfWriting } from './writings.ts';
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
import { measuredTuning } from './tuning-store.ts';
import type { GpuBackend } from './wgsl/device.ts';
import { checkTuning, requestTuning, tuningOf } from './wgsl/tuning.ts';
import type { GpuTuning, GpuTuningInUse } from './wgsl/tuning.ts';

/** Kernels in use: their label, as `explain()` shows it, and the way back. */
export interface GpuKernels {
  /** `kernels-gpu (wgsl)`, and behind wgsl what differs from the table: `measured tuning`, `given tuning`, `half tiles` */
  readonly label: string;
  /** why a kernel runs in WGSL, see `gpuWritings()` */
  why(kernel: string): string | undefined;
  /** puts tfjs's own kernels and the composed ones back */
  undo(): void;
}

/** Options of `useGpuKernels`. */
export interface GpuKernelsOptions {
  /**
   * settings in the place of what was measured or what the table says, see `gpuTuning()`; `'table'` takes the table even where something was
   * measured
   */
  readonly tuning?: Partial<GpuTuning> | 'table';
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
 * @throws SeqLoomError when a setting is one that no GPU can run
 */
export function useGpuKernels({ tuning = {} }: GpuKernelsOptions = {}): GpuKernels {
  const given = tuning === 'table' ? {} : tuning;
  checkTuning(given);
  const undoTuning = requestTuning({ given, measured: tuning === 'table' ? undefined : measuredTuning });
  const label = labelOf(given);
  const undo = [undoTuning, submitLater(), replaceTfjsKernels(), ...implementations.map((implement) => implement(label))];
  return { label, why: reasonOfWriting, undo: () => undo.splice(0).forEach((step) => step()) };
}

function labelOf(given: Partial<GpuTuning>): string {
  const device = sharedWebGpuDevice()?.device;
  const origin = device ? tuningOf(device).origin : Object.keys(given).length > 0 ? 'given' : 'table';
  return `kernels-gpu (wgsl${origin === 'table' ? '' : `, ${origin} tuning`}${given.halfTiles ? ', half tiles' : ''})`;
}

/**
 * How the kernels in use are written: the tuning, where it comes from, and the adapter.
 *
 * @returns undefined while no WebGPU backend is in use
 */
export function gpuTuning(): GpuTuningInUse | undefined {
  if (tf.getBackend() !== 'webgpu') return undefined;
  return tuningOf((tf.backend() as GpuBackend).device);
}
