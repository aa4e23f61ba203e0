/**
 * HGRN2, the specification in double precision, token by token.
 *
 * Glossary (Qin et al. 2024, section 3; one head)
 *   query        o_t in the paper, its output gate   [B, T, H, K], after its activation
 *   logDecay     log f_t, the forget gate            [B, T, H, K], at most 0
 *   value        i_t, the input                      [B, T, H, V]
 *   memory       h_t                                 h_t = diag(f_t) h_{t-1} + (1 - f_t) i_t^T
 *   output       y_t                                 scale h_t^T o_t
 *   bound        gamma                               f = gamma + (1 - gamma) sigmoid(z), for logits z
 *   mask                                             0: the token writes nothing and nothing decays
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveHgrn2`. */
export interface NaiveHgrn2Inputs {
  readonly query: Array64;
  readonly logDecay: Array64;
  readonly value: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** memory before the first token [B, H, K, V]; zeros when left out */
  readonly memory?: Array64;
}

/** Output [B, T, H, V] and memory after the last token [B, H, K, V]; the scale is K^-0.5 unless given. */
export function naiveHgrn2(inputs: NaiveHgrn2Inputs, scale = inputs.query.shape[3]! ** -0.5): { output: Array64; memory: Array64 } {
  const { query, logDecay, value, mask } = inputs;
  const [batch, length, heads, keyDim] = query.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const output = new Float64Array(batch * length * heads * valueDim);
  const memory = inputs.memory ? Float64Array.from(inputs.memory.data) : new Float64Array(batch * heads * keyDim * valueDim);
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let h = 0; h < heads; h++) {
        const token = (b * length + t) * heads + h;
        for (let c = 0; c < keyDim; c++) {
          const f = Math.exp(logDecay.data[token * keyDim + c]!);
          const write = -Math.expm1(logDecay.data[token * keyDim + c]!);
          for (let e = 0; e < valueDim; e++) {
            const at = ((b * heads + h) * keyDim + c) * valueDim + e;
            if (!mask || mask.data[b * length + t] !== 0) memory[at] = f * memory[at]! + write * value.data[token * valueDim + e]!;
            output[token * valueDim + e]! += scale * query.data[token * keyDim + c]! * memory[at]!;
          }
        }
      }
    }
  }
  return {
    output: { shape: [batch, length, heads, valueDim], data: output },
    memory: { shape: [batch, heads, keyDim, valueDim], data: memory },
  };
}

/** The forget gate of a logit above a lower bound: its logarithm, and 1 - f. */
export function naiveForgetGate(logit: number, bound: number): { logDecay: number; write: number } {
  const open = 1 / (1 + Math.exp(-logit));
  const write = (1 - bound) / (1 + Math.exp(logit));
  // whichever of f and 1 - f is small keeps its digits
  return { logDecay: write < 0.5 ? Math.log1p(-write) : Math.log(bound + (1 - bound) * open), write };
}
