/**
 * The real-gated linear recurrent unit, the specification in double precision.
 *
 * Glossary (De et al. 2024, section 2.4; row b, token t, channel w)
 *   input            x_t      [B, T, W]
 *   inputGate        of i_t   [B, T, W], before its sigmoid; i_t is equation 2
 *   recurrenceGate   of r_t   [B, T, W], before its sigmoid; r_t is equation 1
 *   decayParameter   Lambda   [W]; log a = -softplus(Lambda) is the decay of a gate of 1/8
 *   decay            a_t      exp(-8 r_t softplus(Lambda)), equation 3
 *   hidden           h_t      a_t h_{t-1} + sqrt(1 - a_t^2) (i_t x_t), equation 4
 *   reset            where a sequence begins: a_t = 0 in the recurrence, and 1 in place of the root
 */
import type { Array64 } from '@seqloom/core';
import { zeros64 } from '../array64.ts';

/** Inputs of `naiveRgLru`. */
export interface NaiveRgLruInputs {
  readonly input: Array64;
  readonly inputGate: Array64;
  readonly recurrenceGate: Array64;
  readonly decayParameter: Array64;
  /** [B, W]; without it the first token begins a sequence */
  readonly hidden?: Array64;
  /** [B, T], 1 where a sequence begins */
  readonly reset?: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
}

/** Output [B, T, W] and state after the last token [B, W]. */
export function naiveRgLru({ input, inputGate, recurrenceGate, decayParameter, hidden, reset, mask }: NaiveRgLruInputs): {
  output: Array64;
  hidden: Array64;
} {
  const [batch, length, width] = input.shape as [number, number, number];
  const output = zeros64(input.shape);
  const after = zeros64([batch, width]);
  if (hidden) after.data.set(hidden.data);
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  for (let b = 0; b < batch; b++) {
    for (let w = 0; w < width; w++) {
      const lambda = decayParameter.data[w]!;
      const softplus = Math.max(lambda, 0) + Math.log1p(Math.exp(-Math.abs(lambda)));
      const lane = b * width + w;
      for (let t = 0; t < length; t++) {
        const token = b * length + t;
        const at = token * width + w;
        if (!mask || mask.data[token] !== 0) {
          const begins = reset ? reset.data[token] !== 0 : !hidden && t === 0;
          const logDecay = -8 * sigmoid(recurrenceGate.data[at]!) * softplus;
          const written = sigmoid(inputGate.data[at]!) * input.data[at]!;
          after.data[lane] = begins ? written : Math.exp(logDecay) * after.data[lane]! + Math.sqrt(-Math.expm1(2 * logDecay)) * written;
        }
        output.data[at] = after.data[lane]!;
      }
    }
  }
  return { output, hidden: after };
}
