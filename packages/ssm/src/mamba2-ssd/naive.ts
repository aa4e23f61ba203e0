/**
 * The state space of Mamba-2, the specification in double precision.
 *
 * Glossary (Dao & Gu 2024, sections 2, 3 and 7; row b, token t, head h of P channels p, state n; head h reads group g = floor(h G / H))
 *   input          x_t      [B, T, H, P]
 *   delta          Delta_t  [B, T, H], the step: clamp(softplus(delta + deltaBias), limits), the softplus being optional
 *   transition     A        [H], negative
 *   inputMatrix    B_t      [B, T, G, N]
 *   outputMatrix   C_t      [B, T, G, N]
 *   decay          a_t      exp(Delta_t A), one number per head
 *   memory         h_t      a_t h_{t-1} + Delta_t B_t x_t^T, [N, P]
 *   output         y_t      h_t^T C_t + D x_t, times silu(z_t) where there is a gate
 */
import type { Array64 } from '@seqloom/core';
import { zeros64 } from '../array64.ts';

/** Inputs of `naiveStateSpaceDuality`. */
export interface NaiveDualityInputs {
  readonly input: Array64;
  readonly delta: Array64;
  readonly transition: Array64;
  readonly inputMatrix: Array64;
  readonly outputMatrix: Array64;
  /** D, [H] or [H, P] */
  readonly skip?: Array64;
  /** z, [B, T, H, P] */
  readonly gate?: Array64;
  /** [H] */
  readonly deltaBias?: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** [B, H, N, P] */
  readonly memory?: Array64;
}

/** Settings of `naiveStateSpaceDuality`, all explicit. */
export interface NaiveDualitySettings {
  readonly deltaSoftplus: boolean;
  readonly deltaLimits: readonly [number, number];
}

/** Output [B, T, H, P] and memory after the last token [B, H, N, P]. */
export function naiveStateSpaceDuality(
  { input, delta, transition, inputMatrix, outputMatrix, skip, gate, deltaBias, mask, memory }: NaiveDualityInputs,
  { deltaSoftplus, deltaLimits: [least, most] }: NaiveDualitySettings,
): { output: Array64; memory: Array64 } {
  const [batch, length, heads, width] = input.shape as [number, number, number, number];
  const [groups, states] = inputMatrix.shape.slice(2) as [number, number];
  const output = zeros64(input.shape);
  const after = zeros64([batch, heads, states, width]);
  if (memory) after.data.set(memory.data);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const group = Math.floor((h * groups) / heads);
      for (let t = 0; t < length; t++) {
        const token = (b * length + t) * heads + h;
        const live = !mask || mask.data[b * length + t] !== 0;
        const raw = delta.data[token]! + (deltaBias ? deltaBias.data[h]! : 0);
        const soft = deltaSoftplus ? Math.max(raw, 0) + Math.log1p(Math.exp(-Math.abs(raw))) : raw;
        const step = Math.min(most, Math.max(least, soft));
        const decay = Math.exp(step * transition.data[h]!);
        for (let p = 0; p < width; p++) {
          const x = input.data[token * width + p]!;
          let sum = (skip ? skip.data[skip.shape.length === 1 ? h : h * width + p]! : 0) * x;
          for (let n = 0; n < states; n++) {
            const lane = ((b * heads + h) * states + n) * width + p;
            const column = ((b * length + t) * groups + group) * states + n;
            if (live) after.data[lane] = decay * after.data[lane]! + step * inputMatrix.data[column]! * x;
            sum += outputMatrix.data[column]! * after.data[lane]!;
          }
          const z = gate ? gate.data[token * width + p]! : 0;
          output.data[token * width + p] = gate ? (sum * z) / (1 + Math.exp(-z)) : sum;
        }
      }
    }
  }
  return { output, memory: after };
}
