/**
 * The selective state space of Mamba, the specification in double precision.
 *
 * Glossary (Gu & Dao 2023, sections 2 and 3; one row b, token t, channel c, state n; channel c belongs to group g = floor(c G / C))
 *   input          x_t      [B, T, C]
 *   delta          Delta_t  [B, T, C], the step size; with `deltaSoftplus` softplus(delta + deltaBias), else delta + deltaBias
 *   transition     A        [C, N], negative
 *   inputMatrix    B_t      [B, T, G, N]
 *   outputMatrix   C_t      [B, T, G, N]
 *   decay          Abar_t   exp(Delta_t A), equation 4 (zero-order hold)
 *   drive          Bbar_t   Delta_t B_t, the first-order form that the original code uses
 *   memory         h_t      Abar_t h_{t-1} + Bbar_t x_t, equation 2a
 *   output         y_t      sum_n C_t h_t + D x_t, equation 2b, times silu(z_t) where there is a gate
 */
import type { Array64 } from '@seqloom/core';
import { zeros64 } from '../array64.ts';

/** Inputs of `naiveSelectiveStateSpace`. */
export interface NaiveSelectiveInputs {
  readonly input: Array64;
  readonly delta: Array64;
  readonly transition: Array64;
  readonly inputMatrix: Array64;
  readonly outputMatrix: Array64;
  /** D, [C] */
  readonly skip?: Array64;
  /** z, [B, T, C] */
  readonly gate?: Array64;
  /** [C] */
  readonly deltaBias?: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** [B, C, N] */
  readonly memory?: Array64;
}

/** Output [B, T, C] and memory after the last token [B, C, N]. */
export function naiveSelectiveStateSpace(
  { input, delta, transition, inputMatrix, outputMatrix, skip, gate, deltaBias, mask, memory }: NaiveSelectiveInputs,
  { deltaSoftplus }: { readonly deltaSoftplus: boolean },
): { output: Array64; memory: Array64 } {
  const [batch, length, channels] = input.shape as [number, number, number];
  const [groups, states] = inputMatrix.shape.slice(2) as [number, number];
  const output = zeros64([batch, length, channels]);
  const after = zeros64([batch, channels, states]);
  if (memory) after.data.set(memory.data);
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < channels; c++) {
      const group = Math.floor((c * groups) / channels);
      for (let t = 0; t < length; t++) {
        const token = (b * length + t) * channels + c;
        const live = !mask || mask.data[b * length + t] !== 0;
        const raw = delta.data[token]! + (deltaBias ? deltaBias.data[c]! : 0);
        const step = deltaSoftplus ? Math.max(raw, 0) + Math.log1p(Math.exp(-Math.abs(raw))) : raw;
        let sum = (skip ? skip.data[c]! : 0) * input.data[token]!;
        for (let n = 0; n < states; n++) {
          const lane = (b * channels + c) * states + n;
          const column = ((b * length + t) * groups + group) * states + n;
          if (live) {
            const decay = Math.exp(step * transition.data[c * states + n]!);
            const drive = step * inputMatrix.data[column]!;
            after.data[lane] = decay * after.data[lane]! + drive * input.data[token]!;
          }
          sum += outputMatrix.data[column]! * after.data[lane]!;
        }
        const z = gate ? gate.data[token]! : 0;
        output.data[token] = gate ? (sum * z) / (1 + Math.exp(-z)) : sum;
      }
    }
  }
  return { output, memory: after };
}
