import type { Explanation, SetupOptions } from '@seqloom/core';
import type { Outcome } from '../../consumer/outcome.ts';

/** What `runKernels` of run-kernels.mjs reports. */
export interface Findings {
  /** the ten training steps */
  training: Outcome;
  explanation: Explanation;
  /** whether the memory of tfjs-wasm is shared */
  shared: boolean;
  /** whether tfjs's BatchMatMul was replaced while the kernels were in use */
  replaced: boolean;
  /** a batched product by the kernels, and by tfjs-wasm after they were put away */
  product: number[];
  productOfTfjs: number[];
  /** output of a fresh layer, and the gradient of its squares with respect to the input */
  output: number[];
  gradient: number[];
}

export function runKernels(options: SetupOptions, threads?: boolean): Promise<Findings>;
