import type { Array64 } from './array64.ts';

/** Inputs of the attention oracle: layouts as in the `SoftmaxAttention` contract. */
export interface NaiveSoftmaxAttentionInputs {
  /** [B, T, H, D] */
  query: Array64;
  /** [B, S, G, D], G divides H */
  key: Array64;
  /** [B, S, G, Dv] */
  value: Array64;
  /** [B, T] */
  queryPositions?: Array64 | undefined;
  /** [B, S], negative = the key does not exist */
  keyPositions?: Array64 | undefined;
  /** [1 or B, 1 or H, T, S] */
  bias?: Array64 | undefined;
  /** [H] */
  sinkLogits?: Array64 | undefined;
  /** [H] */
  slopes?: Array64 | undefined;
}

/** Settings of the attention oracle; names and defaults as in the contract. */
export interface NaiveSoftmaxAttentionOptions {
  scale?: number;
  causal?: boolean;
  window?: number | null;
  dilation?: number;
  sinks?: number;
  prefix?: number;
  softCap?: number | null;
}

/** Whether the query at position `q` sees the key at position `k`: the contract's visibility rule, in one place. */
export function isVisible(q: number, k: number, options: NaiveSoftmaxAttentionOptions): boolean {
  const { causal = false, window = null, dilation = 1, sinks = 0, prefix = 0 } = options;
  if (k < 0) return false;
  if (k < prefix) return true;
  if (causal && k > q) return false;
  if ((q - k) % dilation !== 0) return false;
  return window === null || Math.abs(q - k) < window || k < sinks;
}

/**
 * Softmax attention in float64, one query and one head at a time, straight from the definition.
 *
 * s_j = cap(scale q·k_j) - slope |i - j| + bias_j over the visible keys j; m = max(s, z); p_j = e^(s_j - m);
 * l = sum_j p_j + e^(z - m) with the optional sink logit z; output = sum_j p_j v_j / l; logSumExp = m + ln l.
 * A row that sees nothing gives output 0 and logSumExp -Infinity (or z).
 *
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H]
 */
export function naiveSoftmaxAttention(
  inputs: NaiveSoftmaxAttentionInputs,
  options: NaiveSoftmaxAttentionOptions = {},
): { output: Array64; logSumExp: Array64 } {
  const { query, key, value, queryPositions, keyPositions, bias, sinkLogits, slopes } = inputs;
  const [B, T, H, D] = query.shape as [number, number, number, number];
  const [, S, G, Dv] = value.shape as [number, number, number, number];
  const { scale = 1 / Math.sqrt(D), softCap = null } = options;
  const output = new Float64Array(B * T * H * Dv);
  const logSumExp = new Float64Array(B * T * H);
  const scores = new Float64Array(S);
  for (let b = 0; b < B; b++) {
    for (let t = 0; t < T; t++) {
      const q = queryPositions ? queryPositions.data[b * T + t]! : t + S - T;
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * G) / H);
        const row = (b * T + t) * H + h;
        let m = sinkLogits ? sinkLogits.data[h]! : -Infinity;
        for (let j = 0; j < S; j++) {
          const k = keyPositions ? keyPositions.data[b * S + j]! : j;
          scores[j] = -Infinity;
          if (!isVisible(q, k, options)) continue;
          let s = 0;
          for (let d = 0; d < D; d++) s += query.data[row * D + d]! * key.data[((b * S + j) * G + g) * D + d]!;
          s *= scale;
          if (softCap !== null) s = softCap * Math.tanh(s / softCap);
          if (slopes) s -= slopes.data[h]! * Math.abs(q - k);
          if (bias) {
            const [biasB, biasH] = bias.shape as [number, number];
            s += bias.data[(((b % biasB) * biasH + (h % biasH)) * T + t) * S + j]!;
          }
          scores[j] = s;
          m = Math.max(m, s);
        }
        if (m === -Infinity) {
          logSumExp[row] = -Infinity;
          continue;
        }
        let l = sinkLogits ? Math.exp(sinkLogits.data[h]! - m) : 0;
        for (let j = 0; j < S; j++) {
          const p = Math.exp(scores[j]! - m);
          if (p === 0) continue;
          l += p;
          for (let d = 0; d < Dv; d++) output[row * Dv + d]! += p * value.data[((b * S + j) * G + g) * Dv + d]!;
        }
        for (let d = 0; d < Dv; d++) output[row * Dv + d]! /= l;
        logSumExp[row] = m + Math.log(l);
      }
    }
  }
  return { output: { shape: [B, T, H, Dv], data: output }, logSumExp: { shape: [B, T, H], data: logSumExp } };
}
