/**
 * Retention, the specification in double precision, in the parallel form of the paper.
 *
 * Glossary (Sun et al. 2023, section 2.1; one head, p counts the tokens that are no padding)
 *   query, key, value   Q, K, V     [B, T, H, K], [B, T, H, K], [B, T, H, V], rotated already
 *   gamma               gamma       decay of a head per token, in (0, 1]
 *   weights             D_nm        gamma^(p_n - p_m) if n >= m, else 0                                   (equation 5)
 *   output              O           ((scale Q K^T) * D) V + gamma^(p_n) (scale q_n) S                     (equations 5 and 7)
 *   memory              S           sum over m of gamma^(p_T - p_m) k_m v_m^T + gamma^(p_T) S before      (equation 7)
 *   noncausal                       D_nm = gamma^|p_n - p_m| for all n and m; outputs at padding are 0
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveRetention`. */
export interface NaiveRetentionInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** memory before the first token [B, H, K, V]; zeros when left out */
  readonly memory?: Array64;
}

/** Settings of `naiveRetention`, all explicit. */
export interface NaiveRetentionSettings {
  /** log gamma of each head */
  readonly logDecay: readonly number[];
  readonly scale: number;
  readonly noncausal: boolean;
}

/** Output [B, T, H, V] and memory after the last token [B, H, K, V]. */
export function naiveRetention(inputs: NaiveRetentionInputs, settings: NaiveRetentionSettings): { output: Array64; memory: Array64 } {
  const { query, key, value, mask, memory } = inputs;
  const { logDecay, scale, noncausal } = settings;
  const [batch, length, heads, keyDim] = query.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const output = new Float64Array(batch * length * heads * valueDim);
  const after = new Float64Array(batch * heads * keyDim * valueDim);
  for (let b = 0; b < batch; b++) {
    const live = (t: number): boolean => !mask || mask.data[b * length + t] !== 0;
    let count = 0;
    const places = Array.from({ length }, (_, t) => (count += live(t) ? 1 : 0));
    for (let h = 0; h < heads; h++) {
      const gamma = Math.exp(logDecay[h]!);
      const before = (c: number, e: number): number => memory?.data[((b * heads + h) * keyDim + c) * valueDim + e] ?? 0;
      const at = (t: number): number => (b * length + t) * heads + h;
      for (let n = 0; n < length; n++) {
        if (noncausal && !live(n)) continue;
        for (let m = 0; m < length; m++) {
          if (!live(m) || (m > n && !noncausal)) continue;
          let score = 0;
          for (let c = 0; c < keyDim; c++) score += scale * query.data[at(n) * keyDim + c]! * key.data[at(m) * keyDim + c]!;
          const weight = gamma ** Math.abs(places[n]! - places[m]!);
          for (let e = 0; e < valueDim; e++) output[at(n) * valueDim + e]! += score * weight * value.data[at(m) * valueDim + e]!;
        }
        for (let c = 0; c < keyDim; c++) {
          const q = scale * gamma ** places[n]! * query.data[at(n) * keyDim + c]!;
          for (let e = 0; e < valueDim; e++) output[at(n) * valueDim + e]! += q * before(c, e);
        }
      }
      for (let c = 0; c < keyDim; c++) {
        for (let e = 0; e < valueDim; e++) {
          let sum = gamma ** count * before(c, e);
          for (let m = 0; m < length; m++) {
            if (live(m)) sum += gamma ** (count - places[m]!) * key.data[at(m) * keyDim + c]! * value.data[at(m) * valueDim + e]!;
          }
          after[((b * heads + h) * keyDim + c) * valueDim + e] = sum;
        }
      }
    }
  }
  return {
    output: { shape: [batch, length, heads, valueDim], data: output },
    memory: { shape: [batch, heads, keyDim, valueDim], data: after },
  };
}

/**
 * The rotation in front of retention: pair r of token n turns by the angle `(start + n) theta_r`.
 *
 * @param x [B, T, H, K]
 * @param start position of the first token
 * @param theta K / 2 angles
 * @param interleaved pairs (2r, 2r + 1) instead of (r, r + K / 2)
 */
export function naiveRotation(x: Array64, start: number, theta: ArrayLike<number>, interleaved: boolean): Array64 {
  const [, length, heads, width] = x.shape as [number, number, number, number];
  const data = new Float64Array(x.data.length);
  for (let row = 0; row < x.data.length / width; row++) {
    const position = start + (Math.floor(row / heads) % length);
    for (let r = 0; r < width / 2; r++) {
      const [i, j] = interleaved ? [2 * r, 2 * r + 1] : [r, r + width / 2];
      const [u, w] = [x.data[row * width + i]!, x.data[row * width + j]!];
      const angle = position * theta[r]!;
      data[row * width + i] = u * Math.cos(angle) - w * Math.sin(angle);
      data[row * width + j] = w * Math.cos(angle) + u * Math.sin(angle);
    }
  }
  return { shape: x.shape, data };
}
