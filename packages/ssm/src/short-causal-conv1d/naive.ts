/**
 * The short causal depthwise convolution, the specification in double precision.
 *
 * Glossary (row b, token t, channel c)
 *   input    x_t      [B, T, C]
 *   weight   w_i      [C, K], tap K - 1 multiplies the current token and tap 0 the oldest
 *   bias     b        [C]
 *   window   s        [B, K - 1, C], the inputs before the first, oldest first
 *   joined   xp       s followed by the valid tokens of x
 *   output   y_t      act(b + sum over i < K of w_i xp_{t + i}), 0 at padding
 */
import type { Array64 } from '@seqloom/core';
import { zeros64 } from '../array64.ts';

/** Inputs of `naiveShortCausalConv1d`. */
export interface NaiveConvolutionInputs {
  readonly input: Array64;
  readonly weight: Array64;
  readonly bias?: Array64;
  readonly window?: Array64;
  /** [B], valid tokens per row, the rest being padding on the right */
  readonly lengths?: Array64;
}

/** Output [B, T, C] and window after the last valid token [B, K - 1, C]. */
export function naiveShortCausalConv1d(
  { input, weight, bias, window, lengths }: NaiveConvolutionInputs,
  { activation }: { readonly activation: 'none' | 'silu' },
): { output: Array64; window: Array64 } {
  const [batch, length, channels] = input.shape as [number, number, number];
  const taps = weight.shape[1]!;
  const output = zeros64(input.shape);
  const after = zeros64([batch, taps - 1, channels]);
  for (let b = 0; b < batch; b++) {
    const valid = lengths ? lengths.data[b]! : length;
    // place t of the joined row: negative ones are in the window
    const at = (t: number, c: number): number => {
      if (t >= 0) return input.data[(b * length + t) * channels + c]!;
      return window ? window.data[(b * (taps - 1) + taps - 1 + t) * channels + c]! : 0;
    };
    for (let c = 0; c < channels; c++) {
      for (let t = 0; t < valid; t++) {
        let sum = bias ? bias.data[c]! : 0;
        for (let i = 0; i < taps; i++) sum += weight.data[c * taps + i]! * at(t - (taps - 1) + i, c);
        output.data[(b * length + t) * channels + c] = activation === 'silu' ? sum / (1 + Math.exp(-sum)) : sum;
      }
      for (let i = 0; i < taps - 1; i++) after.data[(b * (taps - 1) + i) * channels + c] = at(valid - (taps - 1) + i, c);
    }
  }
  return { output, window: after };
}
