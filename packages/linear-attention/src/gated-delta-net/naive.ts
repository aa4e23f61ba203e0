/**
 * The gated delta rule of Gated DeltaNet, the specification in double precision.
 *
 * Glossary (Yang, Kautz & Hatamizadeh 2024, section 3.1; one head, S is the transpose of the paper's)
 *   query, key   q_t, k_t        [B, T, H, K]; value head h uses query and key head floor(h H / Hv)
 *   value        v_t             [B, T, Hv, V]
 *   logDecay     log alpha_t     [B, T, Hv], at most 0
 *   beta         beta_t          [B, T, Hv], strength of the write
 *   memory       S_t             [B, Hv, K, V]
 *   faded        S~_t            alpha_t S_{t-1}
 *   recalled                     S~_t^T k_t: what the decayed memory holds at the key
 *   S            S_t             S~_t + beta_t k_t (v_t - S~_t^T k_t)^T = alpha_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T
 *   output       o_t             scale S_t^T q_t
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveGatedDeltaRule`. */
export interface NaiveGatedDeltaInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly logDecay: Array64;
  readonly beta: Array64;
  /** S before the first token, zeros when left out */
  readonly memory?: Array64;
  /** [B, T], 1 for tokens and 0 for padding, which neither fades nor writes */
  readonly mask?: Array64;
}

/** Output [B, T, Hv, V] and memory after the last token [B, Hv, K, V]; scale is K^-0.5 when left out. */
export function naiveGatedDeltaRule(inputs: NaiveGatedDeltaInputs, scale?: number): { output: Array64; memory: Array64 } {
  const { query, key, value, logDecay, beta, mask } = inputs;
  const [batch, length, keyHeads, keyDim] = key.shape as [number, number, number, number];
  const [heads, valueDim] = value.shape.slice(2) as [number, number];
  const factor = scale ?? 1 / Math.sqrt(keyDim);
  const output = new Float64Array(batch * length * heads * valueDim);
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
        const keyRow = ((b * length + t) * keyHeads + Math.floor((h * keyHeads) / heads)) * keyDim;
        if (!mask || mask.data[b * length + t] !== 0) {
          const alpha = Math.exp(logDecay.data[token]!);
          S.forEach((entry, at) => (S[at] = alpha * entry));
          const k = key.data.subarray(keyRow, keyRow + keyDim);
          const correction = read(k).map((recalled, e) => beta.data[token]! * (value.data[token * valueDim + e]! - recalled));
          k.forEach((channel, d) => correction.forEach((error, e) => (S[d * valueDim + e]! += channel * error)));
        }
        read(query.data.subarray(keyRow, keyRow + keyDim)).forEach((o, e) => (output[token * valueDim + e] = factor * o));
      }
    }
  }
  return {
    output: { shape: [batch, length, heads, valueDim], data: output },
    memory: { shape: [batch, heads, keyDim, valueDim], data: memory },
  };
}
