/**
 * Gated linear attention, the specification in double precision, one token at a time.
 *
 * Glossary (Yang et al. 2023, section 4; one head)
 *   query, key, value   q_t, k_t, v_t   [B, T, Hq, K], [B, T, H, K], [B, T, H, V]; query head h reads state head floor(h H / Hq)
 *   logDecay            log alpha_t     at most 0, per key channel [B, T, H, K] or per head [B, T, H]
 *   memory              S_t             S_t = diag(alpha_t) S_{t-1} + k_t v_t^T                     (equation 3)
 *   output              o_t             S_t^T (scale q_t)
 *   mask                                0: the token writes nothing and nothing decays
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveGatedLinearAttention`. */
export interface NaiveGatedInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly logDecay: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** state before the first token [B, H, K, V]; zeros when left out */
  readonly memory?: Array64;
}

/**
 * Output [B, T, Hq, V] and memory after the last token [B, H, K, V].
 *
 * @param scale factor of the query, K^-0.5 in the reference
 */
export function naiveGatedLinearAttention(
  inputs: NaiveGatedInputs,
  scale = inputs.key.shape[3]! ** -0.5,
): { output: Array64; memory: Array64 } {
  const { query, key, value, logDecay, mask } = inputs;
  const [batch, length, queryHeads, keyDim] = query.shape as [number, number, number, number];
  const heads = key.shape[2]!;
  const valueDim = value.shape[3]!;
  const group = queryHeads / heads;
  const decays = logDecay.shape[3] ?? 1;
  const output = new Float64Array(batch * length * queryHeads * valueDim);
  const memory = inputs.memory ? Float64Array.from(inputs.memory.data) : new Float64Array(batch * heads * keyDim * valueDim);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const S = memory.subarray((b * heads + h) * keyDim * valueDim, (b * heads + h + 1) * keyDim * valueDim);
      for (let t = 0; t < length; t++) {
        const token = (b * length + t) * heads + h;
        if (!mask || mask.data[b * length + t] !== 0) {
          for (let c = 0; c < keyDim; c++) {
            const alpha = Math.exp(logDecay.data[token * decays + (decays === 1 ? 0 : c)]!);
            for (let e = 0; e < valueDim; e++) {
              S[c * valueDim + e] = alpha * S[c * valueDim + e]! + key.data[token * keyDim + c]! * value.data[token * valueDim + e]!;
            }
          }
        }
        for (let g = 0; g < group; g++) {
          const row = (b * length + t) * queryHeads + h * group + g;
          for (let c = 0; c < keyDim; c++) {
            const q = scale * query.data[row * keyDim + c]!;
            for (let e = 0; e < valueDim; e++) output[row * valueDim + e]! += q * S[c * valueDim + e]!;
          }
        }
      }
    }
  }
  return {
    output: { shape: [batch, length, queryHeads, valueDim], data: output },
    memory: { shape: [batch, heads, keyDim, valueDim], data: memory },
  };
}
