import type * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention, tidy } from '@seqloom/core';

/** Inputs of multi-head attention. */
export interface AttentionInputs {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, G, D], G divides H: H is multi-head, 1 multi-query, between them grouped-query attention */
  readonly key: tf.Tensor;
  /** [B, S, G, Dv] */
  readonly value: tf.Tensor;
  /** [H], a logit per head in the denominator that carries no value */
  readonly sinkLogits?: tf.Tensor | undefined;
  /** [H], ALiBi slopes */
  readonly slopes?: tf.Tensor | undefined;
}

/** Options of multi-head attention. */
export interface AttentionOptions {
  /** query i of T sees keys j <= i + S - T; default false */
  readonly causal?: boolean | undefined;
  /** default D^-0.5 */
  readonly scale?: number | undefined;
  /** c in c tanh(score / c); default none */
  readonly softCap?: number | null | undefined;
}

/**
 * Multi-head, multi-query or grouped-query attention of a whole sequence.
 *
 * output_i = sum_j softmax_j(scale q_i·k_j) v_j; query head h reads key head floor(h G / H).
 *
 * @param inputs query, key, value, and per-head logits or slopes
 * @param options causal, scale, softCap
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H], owned by the caller, both differentiable
 * @throws SeqLoomError when shapes, dtypes or options do not fit
 * @see Vaswani et al. 2017; Shazeer 2019 (arXiv 1911.02150); Ainslie et al. 2023 (arXiv 2305.13245)
 */
export function multiHeadAttention(
  inputs: AttentionInputs,
  options: AttentionOptions = {},
): { output: tf.Tensor4D; logSumExp: tf.Tensor3D } {
  return tidy(() => softmaxAttention(inputs, options));
}
