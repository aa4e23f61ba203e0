/**
 * The delta rule of DeltaNet, the specification in double precision.
 *
 * Glossary (Yang et al. 2024, section 2.2; one head, S is the transpose of the paper's)
 *   query, key, value   q_t, k_t, v_t   [B, T, Hq, K], [B, T, H, K], [B, T, H, V]
 *   beta                beta_t          [B, T, H], strength of the write
 *   memory              S_t             [B, H, K, V]
 *   recalled            v_t^old         S_{t-1}^T k_t
 *   correction          delta_t         beta_t (v_t - v_t^old)
 *   S                   S_t             S_{t-1} + k_t delta_t^T = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T
 *   output              o_t             scale S_t^T q_t
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveDeltaRule`. */
export interface NaiveDeltaInputs {
  /** [B, T, Hq, K]; query head h reads memory head floor(h H / Hq) */
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly beta: Array64;
  /** S before the first token, zeros when left out */
  readonly memory?: Array64;
  /** [B, T], 1 for tokens and 0 for padding, which writes nothing */
  readonly mask?: Array64;
}

/** Output [B, T, Hq, V] and memory after the last token [B, H, K, V]; scale is K^-0.5 when left out. */
export function naiveDeltaRule(inputs: NaiveDeltaInputs, scale?: number): { output: Array64; memory: Array64 } {
  const { query, key, value, beta, mask } = inputs;
  const [batch, length, queryHeads, keyDim] = query.shape as [number, number, number, number];
  const [heads, valueDim] = value.shape.slice(2) as [number, number];
  const factor = scale ?? 1 / Math.sqrt(keyDim);
  const output = new Float64Array(batch * length * queryHeads * valueDim);
  const memory = inputs.memory ? Float64Array.from(inputs.memory.data) : new Float64Array(batch * heads * keyDim * valueDim);
  const channels = Array.from({ length: valueDim }, (_, e) => e);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const S = memory.subarray((b * heads + h) * keyDim * valueDim, (b * heads + h + 1) * keyDim * valueDim);
      // S^T x
      const read = (x: Float64Array): number[] =>
        channels.map((e) => x.reduce((sum, channel, d) => sum + channel * S[d * valueDim + e]!, 0));
      for (let t = 0; t < length; t++) {
        const token = (b * length + t) * heads + h;
        const k = key.data.subarray(token * keyDim, (token + 1) * keyDim);
        const recalled = read(k);
        const correction = recalled.map((old, e) => beta.data[token]! * (value.data[token * valueDim + e]! - old));
        const written = !mask || mask.data[b * length + t] !== 0;
        if (written) k.forEach((channel, d) => correction.forEach((error, e) => (S[d * valueDim + e]! += channel * error)));
        for (let g = (h * queryHeads) / heads; g < ((h + 1) * queryHeads) / heads; g++) {
          const row = (b * length + t) * queryHeads + g;
          read(query.data.subarray(row * keyDim, (row + 1) * keyDim)).forEach((o, e) => (output[row * valueDim + e] = factor * o));
        }
      }
    }
  }
  return {
    output: { shape: [batch, length, queryHeads, valueDim], data: output },
    memory: { shape: [batch, heads, keyDim, valueDim], data: memory },
  };
}
