/**
 * Lightning attention, the specification in double precision, token by token.
 *
 * Glossary (Qin et al. 2024, section 3; one head)
 *   query, key, value   q_t, k_t, v_t   [B, T, H, K], [B, T, H, K], [B, T, H, V]
 *   rate                s               decay rate of the head, lambda = exp(-s)
 *   memory              kv_t            kv_t = lambda kv_{t-1} + k_t v_t^T, which belongs to the last token seen
 *   output              o_t             scale kv_t^T q_t
 *   noncausal                           o_t = scale (sum over all m of k_m v_m^T)^T q_t, without decay; 0 at padding
 *   mask                                0: the token writes nothing and nothing decays
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveLightningAttention`. */
export interface NaiveLightningInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** memory before the first token [B, H, K, V]; zeros when left out */
  readonly memory?: Array64;
}

/** Settings of `naiveLightningAttention`, all explicit. */
export interface NaiveLightningSettings {
  /** s of each head; not read where noncausal */
  readonly decayRates: readonly number[];
  readonly scale: number;
  readonly noncausal: boolean;
}

/** Output [B, T, H, V] and memory after the last token [B, H, K, V]. */
export function naiveLightningAttention(
  inputs: NaiveLightningInputs,
  { decayRates, scale, noncausal }: NaiveLightningSettings,
): { output: Array64; memory: Array64 } {
  const { query, key, value, mask } = inputs;
  const [batch, length, heads, keyDim] = query.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const output = new Float64Array(batch * length * heads * valueDim);
  const size = keyDim * valueDim;
  const memory = inputs.memory ? Float64Array.from(inputs.memory.data) : new Float64Array(batch * heads * size);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kv = memory.subarray((b * heads + h) * size, (b * heads + h + 1) * size);
      const lambda = noncausal ? 1 : Math.exp(-decayRates[h]!);
      const at = (t: number): number => (b * length + t) * heads + h;
      const live = (t: number): boolean => !mask || mask.data[b * length + t] !== 0;
      const write = (t: number): void => {
        for (let c = 0; c < keyDim; c++) {
          const k = key.data[at(t) * keyDim + c]!;
          for (let e = 0; e < valueDim; e++) kv[c * valueDim + e] = lambda * kv[c * valueDim + e]! + k * value.data[at(t) * valueDim + e]!;
        }
      };
      const read = (t: number): void => {
        for (let c = 0; c < keyDim; c++) {
          const q = scale * query.data[at(t) * keyDim + c]!;
          for (let e = 0; e < valueDim; e++) output[at(t) * valueDim + e]! += q * kv[c * valueDim + e]!;
        }
      };
      for (let t = 0; t < length; t++) {
        if (live(t)) write(t);
        if (!noncausal) read(t);
      }
      if (noncausal) for (let t = 0; t < length; t++) if (live(t)) read(t);
    }
  }
  return {
    output: { shape: [batch, length, heads, valueDim], data: output },
    memory: { shape: [batch, heads, keyDim, valueDim], data: memory },
  };
}
