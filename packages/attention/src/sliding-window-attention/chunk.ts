import type * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention, tidy } from '@seqloom/core';
import type { AttentionInputs } from '../mha-mqa-gqa/parallel.ts';

/** Options of sliding-window attention. */
export interface WindowOptions {
  /** W, keys that a query sees, itself included; without causality W - 1 on either side */
  readonly window: number;
  /** S, first tokens that stay visible; default 0 */
  readonly sinks?: number | undefined;
  /** default true */
  readonly causal?: boolean | undefined;
  /** default D^-0.5 */
  readonly scale?: number | undefined;
  readonly softCap?: number | null | undefined;
}

/**
 * Sliding-window attention of a whole sequence, tile by tile: only tiles that touch the window or the sinks are computed.
 *
 * Query i sees keys j with i - W < j <= i, or j < S; a key that is both counts once.
 *
 * @param inputs query [B, T, H, D], key [B, T, G, D], value [B, T, G, Dv], already rotated; optional sinkLogits, slopes [H]
 * @param options window, sinks, causal, scale, softCap
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H], owned by the caller, both differentiable
 * @throws SeqLoomError when shapes, dtypes or options do not fit
 * @see "Efficient Streaming Language Models with Attention Sinks" (Xiao et al. 2023, arXiv 2309.17453)
 */
export function slidingWindowAttention(inputs: AttentionInputs, options: WindowOptions): { output: tf.Tensor4D; logSumExp: tf.Tensor3D } {
  const { causal = true, ...rest } = options;
  return tidy(() => softmaxAttention(inputs, { causal, ...rest }));
}
