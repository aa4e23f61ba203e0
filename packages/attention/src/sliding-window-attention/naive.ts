import type { NaiveTensor } from '../mha-mqa-gqa/naive.ts';
import { naiveRotate } from '../positional-encodings/naive.ts';

/**
 * Sliding-window attention with sinks in float64 on plain arrays: the specification, one token after the other as a decoder runs.
 *
 * | code | symbol | equation |
 * | --- | --- | --- |
 * | window | W, keys seen with self | M_ij = 1 iff j <= i and (j > i - W or j < S) |
 * | sinks | S, first tokens that stay | the same |
 * | z | z_h, learned sink logit | l += e^(z_h - m) |
 * | rank | r, place of an entry in the cache, oldest first | Xiao et al. 2023, section 3.2 |
 */

/** What `naiveSlidingWindowAttention` reads. */
export interface NaiveWindowInputs {
  /** [B, T, H, D], not rotated */
  readonly query: NaiveTensor;
  /** [B, T, G, D], not rotated */
  readonly key: NaiveTensor;
  /** [B, T, G, Dv] */
  readonly value: NaiveTensor;
  /** [H] */
  readonly sinkLogits?: NaiveTensor | undefined;
}

/** Settings of the naive form. */
export interface NaiveWindowOptions {
  readonly window: number;
  readonly sinks?: number;
  /** default true; otherwise |i - j| < W or j < S, on both sides */
  readonly causal?: boolean;
  readonly scale?: number;
  /** rotary frequencies; none: no rotation */
  readonly frequencies?: readonly number[];
  /** 'cache': the r-th oldest entry of the cache stands at r, the query behind them all; default 'absolute' */
  readonly positions?: 'absolute' | 'cache';
}

/** @returns output [B, T, H, Dv] */
export function naiveSlidingWindowAttention(
  { query, key, value, sinkLogits }: NaiveWindowInputs,
  { window, sinks = 0, causal = true, scale, frequencies = [], positions = 'absolute' }: NaiveWindowOptions,
): { output: NaiveTensor } {
  const [B, T, H, D] = query.shape as [number, number, number, number];
  const [, , G, Dv] = value.shape as [number, number, number, number];
  const output = new Float64Array(B * T * H * Dv);
  const vector = (x: NaiveTensor, b: number, t: number, h: number): number[] => {
    const [, , heads, width] = x.shape as [number, number, number, number];
    const start = ((b * T + t) * heads + h) * width;
    return [...x.data.subarray(start, start + width)];
  };
  for (let b = 0; b < B; b++)
    for (let i = 0; i < T; i++)
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * G) / H);
        const seen: number[] = [];
        for (let j = 0; j < T; j++) {
          if ((!causal || j <= i) && (Math.abs(i - j) < window || j < sinks)) seen.push(j);
        }
        const place = (token: number, rank: number): number => (positions === 'cache' ? rank : token);
        const q = naiveRotate(vector(query, b, i, h), place(i, seen.length - 1), frequencies);
        const scores = seen.map((j, rank) => {
          const k = naiveRotate(vector(key, b, j, g), place(j, rank), frequencies);
          return (scale ?? D ** -0.5) * q.reduce((sum, value, d) => sum + value * k[d]!, 0);
        });
        const z = sinkLogits ? sinkLogits.data[h]! : -Infinity;
        const maximum = Math.max(z, ...scores);
        const weights = scores.map((s) => Math.exp(s - maximum));
        const total = weights.reduce((sum, p) => sum + p, Math.exp(z - maximum));
        seen.forEach((j, index) => {
          const v = vector(value, b, j, g);
          for (let d = 0; d < Dv; d++) output[((b * T + i) * H + h) * Dv + d]! += (weights[index]! / total) * v[d]!;
        });
      }
  return { output: { shape: [B, T, H, Dv], data: output } };
}
