import { causalConv1d } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';

/** What both forms read, all float32. */
export interface ConvolutionCall {
  /** [B, T, C] */
  readonly input: tf.Tensor;
  /** [C, K] */
  readonly weight: tf.Tensor;
  /** [C] */
  readonly bias?: tf.Tensor | undefined;
  /** [B, K - 1, C], oldest first */
  readonly window: tf.Tensor;
  /** [B] */
  readonly lengths?: tf.Tensor | undefined;
  readonly activation: 'none' | 'silu';
}

/** What both forms return. */
export type ConvolutionResult = { output: tf.Tensor; window: tf.Tensor };

/** The parallel form: all tokens at once through the `CausalConv1d` kernel. */
export function parallelForm({ window, activation, ...inputs }: ConvolutionCall): ConvolutionResult {
  const { output, state } = causalConv1d({ ...inputs, state: window }, { activation });
  return { output, window: state };
}
