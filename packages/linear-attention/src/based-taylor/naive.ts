/**
 * BASED's Taylor linear attention, the specification in double precision.
 *
 * Glossary (Arora et al. 2024, section 4; one head, rows are tokens)
 *   query, key     q_i, k_j    [B, T, H, d], [B, S, H, d], d = feature dimension
 *   value          v_j         [B, S, H, V]
 *   u              u_ij        q_i k_j / sqrt(d)
 *   kernel         kappa_ij    1 + u_ij + u_ij^2 / 2, the second-order Taylor series of exp(u_ij)
 *   phi            phi(x)      [1, x / d^(1/4), (x outer x) / (sqrt(2) sqrt(d))], so that phi(q) phi(k) = kappa
 *   output         o_i         sum_j kappa_ij v_j / (sum_j kappa_ij + epsilon)
 *   memory         [S, z]      sum_j phi(k_j) v_j^T, with sum_j phi(k_j) as last column where outputs are normalised
 */
import { naiveFeatureMap } from '../linear-attention/naive-feature-maps.ts';
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveTaylorAttention`. */
export interface NaiveTaylorInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  /** [B, S], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** [B, H, F, V (+ 1)] */
  readonly memory?: Array64;
}

/** Settings of `naiveTaylorAttention`, all explicit. */
export interface NaiveTaylorSettings {
  readonly normalise: boolean;
  readonly epsilon: number;
  readonly symmetric: boolean;
  /** number of keys that query i of row b sees */
  readonly visible: (row: number, i: number) => number;
}

/** Output [B, T, Hq, V] and memory over all keys [B, H, F, V (+ 1)]. */
export function naiveTaylorAttention(inputs: NaiveTaylorInputs, settings: NaiveTaylorSettings): { output: Array64; memory: Array64 } {
  const { query, key, value, mask, memory } = inputs;
  const { normalise, epsilon, symmetric, visible } = settings;
  const [batch, length, queryHeads, width] = query.shape as [number, number, number, number];
  const [, keys, heads] = key.shape as [number, number, number];
  const valueDim = value.shape[3]!;
  const columns = valueDim + (normalise ? 1 : 0);
  const phi = (x: Float64Array): number[] => naiveFeatureMap(Array.from(x), { name: 'taylor2', symmetric });
  const features = phi(new Float64Array(width)).length;
  const output = new Float64Array(batch * length * queryHeads * valueDim);
  const after = memory ? Float64Array.from(memory.data) : new Float64Array(batch * heads * features * columns);
  const at = (array: Array64, b: number, t: number, h: number): Float64Array => {
    const [, time, count, channels] = array.shape as [number, number, number, number];
    const start = ((b * time + t) * count + h) * channels;
    return array.data.subarray(start, start + channels);
  };
  const seen = (b: number, j: number): boolean => !mask || mask.data[b * keys + j] !== 0;
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < queryHeads; h++) {
      const stateHead = Math.floor((h * heads) / queryHeads);
      for (let i = 0; i < length; i++) {
        const q = at(query, b, i, h);
        const sums = new Float64Array(valueDim);
        let denominator = 0;
        for (let j = 0; j < Math.min(visible(b, i), keys); j++) {
          if (!seen(b, j)) continue;
          const u = q.reduce((sum, channel, d) => sum + channel * at(key, b, j, stateHead)[d]!, 0) / Math.sqrt(width);
          const kernel = 1 + u + (u * u) / 2;
          denominator += kernel;
          at(value, b, j, stateHead).forEach((channel, e) => (sums[e]! += kernel * channel));
        }
        if (memory) {
          phi(q).forEach((feature, f) => {
            const row = ((b * heads + stateHead) * features + f) * columns;
            for (let e = 0; e < valueDim; e++) sums[e]! += feature * memory.data[row + e]!;
            if (normalise) denominator += feature * memory.data[row + valueDim]!;
          });
        }
        const divisor = normalise ? denominator + epsilon : 1;
        sums.forEach((sum, e) => (output[((b * length + i) * queryHeads + h) * valueDim + e] = sum / divisor));
      }
    }
    for (let h = 0; h < heads; h++) {
      for (let j = 0; j < keys; j++) {
        if (!seen(b, j)) continue;
        const written = [...at(value, b, j, h), ...(normalise ? [1] : [])];
        phi(at(key, b, j, h)).forEach((feature, f) => {
          written.forEach((channel, e) => (after[((b * heads + h) * features + f) * columns + e]! += feature * channel));
        });
      }
    }
  }
  return {
    output: { shape: [batch, length, queryHeads, valueDim], data: output },
    memory: { shape: [batch, heads, features, columns], data: after },
  };
}
