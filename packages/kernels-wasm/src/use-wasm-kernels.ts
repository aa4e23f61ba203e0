import { fail } from '@seqloom/core';
import { implementLinearAttention } from './linear-attention.ts';
import { implementSoftmaxAttention } from './softmax-attention.ts';
import { implementRmsNorm } from './rms-norm.ts';
import { implementExpertMatMul } from './expert-matmul.ts';
import { implementBlockAttention } from './block-attention.ts';
import { implementCausalConv1d } from './causal-conv1d.ts';
import { implementRotary } from './rotary.ts';
import { implementSoftmaxCrossEntropy } from './softmax-cross-entropy.ts';
import { implementRows } from './rows.ts';
import { implementAdamWStep } from './adamw-step.ts';
import { implementLinearScan } from './linear-scan.ts';
import { implementSelectiveScan } from './selective-scan.ts';
import { implementTopK } from './top-k.ts';
import { bestBuild, compileBuild, heapFinder, supportsBuild } from './load.ts';
import type { Build } from './load.ts';
import { replaceTfjsKernels } from './tfjs-kernels.ts';

const implementations = [
  implementLinearAttention,
  implementSoftmaxAttention,
  implementRmsNorm,
  implementCausalConv1d,
  implementRotary,
  implementSoftmaxCrossEntropy,
  implementRows,
  implementAdamWStep,
  implementLinearScan,
  implementSelectiveScan,
  implementTopK,
  implementBlockAttention,
  implementExpertMatMul,
];

/** Kernels in use: their label, as `explain()` shows it, and the way back. */
export interface WasmKernels {
  /** `kernels-wasm (relaxed)` or `kernels-wasm (simd)` */
  readonly label: string;
  /** puts tfjs's own kernels and the composed ones back */
  undo(): void;
}

/**
 * Installs the WebAssembly kernels for tfjs's backend `wasm`: the fused forms of core's kernel contracts, and faster forms of tfjs's own kernels.
 *
 * Nothing happens before this call. It may come before or after the backend starts, and a second call replaces the first.
 *
 * @param options `build` chooses a binary; default: the fastest that this runtime accepts (`relaxed` has fused multiply-add)
 * @returns the label, and `undo()`
 * @throws SeqLoomError when the runtime does not accept the build
 */
export async function useWasmKernels(options: { readonly build?: Build } = {}): Promise<WasmKernels> {
  const build = options.build ?? bestBuild();
  if (!supportsBuild(build)) {
    fail({
      mechanism: 'useWasmKernels',
      argument: 'options.build',
      wanted: 'a build whose instructions this runtime accepts',
      given: build,
      remedy: 'Leave it out to take the fastest one that is accepted.',
    });
  }
  const label = `kernels-wasm (${build})`;
  const findHeap = heapFinder(await compileBuild(build), build);
  const undo = [replaceTfjsKernels(findHeap), ...implementations.map((implement) => implement(findHeap, label))];
  return {
    label,
    undo: () => undo.splice(0).forEach((step) => step()),
  };
}
