import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveDecayedDelta`; Hv is a multiple of H. */
export interface NaiveDecayedDeltaInputs {
  /** [B, T, H, K]; value head h uses query and key head floor(h H / Hv) */
  readonly query: Array64;
  /** [B, T, H, K] */
  readonly key: Array64;
  /** [B, T, Hv, V] */
  readonly value: Array64;
  /** at most 0, per head [B, T, Hv] or per key channel [B, T, Hv, K] */
  readonly logDecay: Array64;
  /** [B, T, Hv], strength of the write */
  readonly beta: Array64;
  /** S before the first token, zeros when left out */
  readonly memory?: Array64;
  /** [B, T], 1 for tokens and 0 for padding, which neither fades nor writes */
  readonly mask?: Array64;
}

/**
 * The delta rule on a memory that decays first, in double precision, one token at a time:
 * `S~_t = diag(alpha_t) S_{t-1}`, `S_t = S~_t + beta_t k_t (v_t - S~_t^T k_t)^T`, `o_t = scale S_t^T q_t`.
 *
 * Output [B, T, Hv, V] and memory after the last token [B, Hv, K, V]; scale is K^-0.5 when left out.
 */
export function naiveDecayedDelta(inputs: NaiveDecayedDeltaInputs, scale?: number): { output: Array64; memory: Array64 } {
  const { query, key, value, logDecay, beta, mask } = inputs;
  const [batch, length, keyHeads, keyDim] = key.shape as [number, number, number, number];
  const [heads, valueDim] = value.shape.slice(2) as [number, number];
  const perChannel = logDecay.shape.length === 4;
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
          const k = key.data.subarray(keyRow, keyRow + keyDim);
          // one decay per channel, or the same for all
          const alpha = k.map((_, d) => Math.exp(logDecay.data[perChannel ? token * keyDim + d : token]!));
          S.forEach((entry, at) => (S[at] = alpha[Math.floor(at / valueDim)]! * entry));
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
