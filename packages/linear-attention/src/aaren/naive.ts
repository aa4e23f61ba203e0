/**
 * Aaren, the specification in double precision.
 *
 * Glossary (Feng et al. 2024, section 3; one head, rows are tokens)
 *   query         q           [H, K], learned, the same for all tokens
 *   key, value    k_j, v_j    [B, T, H, K], [B, T, H, V]
 *   logit         s_j         scale q k_j
 *   maximum       m_t         largest logit so far, [B, H]
 *   denominator   u_t         sum over j <= t of exp(s_j - m_t), [B, H]
 *   numerator     w_t         sum over j <= t of exp(s_j - m_t) v_j, [B, H, V]
 *   output        o_t         w_t / u_t
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveAaren`; the three of the state come together or not at all. */
export interface NaiveAarenInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly maximum?: Array64;
  readonly denominator?: Array64;
  readonly numerator?: Array64;
}

/** Output [B, T, H, V], and the memory after the last token. */
export interface NaiveAaren {
  readonly output: Array64;
  readonly maximum: Array64;
  readonly denominator: Array64;
  readonly numerator: Array64;
}

/** Every output from its own sum over the tokens so far. */
export function naiveAaren({ query, key, value, ...state }: NaiveAarenInputs, scale: number): NaiveAaren {
  const [batch, length, heads, keyDim] = key.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const make = (...shape: number[]): Array64 => ({ shape, data: new Float64Array(shape.reduce((a, b) => a * b, 1)) });
  const output = make(batch, length, heads, valueDim);
  const [maximum, denominator, numerator] = [make(batch, heads), make(batch, heads), make(batch, heads, valueDim)];
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const lane = b * heads + h;
      const at = (t: number): number => (b * length + t) * heads + h;
      const logits = Array.from({ length }, (_, t) => {
        let sum = 0;
        for (let d = 0; d < keyDim; d++) sum += query.data[h * keyDim + d]! * key.data[at(t) * keyDim + d]!;
        return scale * sum;
      });
      const carried = state.denominator?.data[lane] ?? 0;
      for (let t = 0; t < length; t++) {
        const seen = logits.slice(0, t + 1);
        const m = Math.max(...seen, ...(carried > 0 ? [state.maximum!.data[lane]!] : []));
        const old = carried > 0 ? Math.exp(state.maximum!.data[lane]! - m) : 0;
        const weights = seen.map((s) => Math.exp(s - m));
        const u = weights.reduce((a, c) => a + c, old * carried);
        for (let e = 0; e < valueDim; e++) {
          const place = lane * valueDim + e;
          const before = old === 0 ? 0 : old * state.numerator!.data[place]!;
          const w = weights.reduce((sum, weight, j) => sum + weight * value.data[at(j) * valueDim + e]!, before);
          output.data[at(t) * valueDim + e] = w / u;
          numerator.data[place] = w;
        }
        maximum.data[lane] = m;
        denominator.data[lane] = u;
      }
    }
  }
  return { output, maximum, denominator, numerator };
}
