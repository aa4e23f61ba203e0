/**
 * Neighborhood attention in float64 on plain arrays: the specification, axis by axis as NATTEN masks it.
 *
 * | code          | symbol | equation                                                                              |
 * | ------------- | ------ | ------------------------------------------------------------------------------------- |
 * | window        | w      | keys per query and axis                                                               |
 * | dilation      | δ      | i and j are in one class when i = j (mod δ); x = floor(i / δ), y = floor(j / δ)        |
 * | stride        | s      | queries that share a leader                                                           |
 * | members       | L_g    | indices of the class, floor((L - g + δ - 1) / δ)                                      |
 * | leader        | u      | min(floor(x / s) s + floor(s / 2), L_g - 1); causal: min(floor(x / s) s + s - 1, L_g - 1) |
 * | left, right   | w_L, w_R | floor(w / 2), w - w_L - 1                                                           |
 * | start         |        | max(u - w_L, 0) + [u + w_R >= L_g] (L_g - w_R - u - 1); causal: max(u - w + 1, 0)      |
 * | end           |        | start + w; causal: min(x + 1, L_g)                                                    |
 */
import type { Array64 } from '@seqloom/core';

/** Settings of one axis, all explicit. */
export interface NaiveAxis {
  readonly window: number;
  readonly dilation: number;
  readonly stride: number;
  readonly causal: boolean;
}

/** Whether index i sees index j along an axis of length L. */
export function naiveSees({ window, dilation, stride, causal }: NaiveAxis, L: number, i: number, j: number): boolean {
  const g = i % dilation;
  if (j % dilation !== g) return false;
  const [x, y] = [Math.floor(i / dilation), Math.floor(j / dilation)];
  const members = Math.floor((L - g + dilation - 1) / dilation);
  const group = Math.floor(x / stride) * stride;
  if (causal) {
    const u = Math.min(group + stride - 1, members - 1);
    return y >= Math.max(u - window + 1, 0) && y < Math.min(x + 1, members);
  }
  if (members <= window) return true;
  const [left, right] = [Math.floor(window / 2), window - Math.floor(window / 2) - 1];
  const u = Math.min(group + Math.floor(stride / 2), members - 1);
  const start = Math.max(u - left, 0) + (u + right >= members ? members - right - u - 1 : 0);
  return y >= start && y < start + window;
}

/**
 * @param inputs query [B, ..., H, D], key [B, ..., G, D], value [B, ..., G, Dv]; extraKey and extraValue [B, M, G, D or Dv]
 * @param axes one per axis of the grid
 * @returns output [B, ..., H, Dv]
 */
export function naiveNeighborhoodAttention(
  { query, key, value, extraKey, extraValue }: { query: Array64; key: Array64; value: Array64; extraKey?: Array64; extraValue?: Array64 },
  axes: readonly NaiveAxis[],
  scale?: number,
): { output: Array64 } {
  const rank = axes.length;
  const shape = query.shape.slice(1, rank + 1);
  const N = shape.reduce((product, length) => product * length, 1);
  const [B, H, D] = [query.shape[0]!, query.shape[rank + 1]!, query.shape[rank + 2]!];
  const [G, Dv, M] = [value.shape[rank + 1]!, value.shape[rank + 2]!, extraKey?.shape[1] ?? 0];
  const output = new Float64Array(B * N * H * Dv);
  const place = (token: number): number[] => {
    const coordinates: number[] = [];
    for (let axis = rank - 1; axis >= 0; axis--) {
      coordinates.unshift(token % shape[axis]!);
      token = Math.floor(token / shape[axis]!);
    }
    return coordinates;
  };
  const places = Array.from({ length: N }, (_, token) => place(token));
  const neighbours = places.map((i) => {
    const seen: number[] = [];
    places.forEach((j, token) => axes.every((axis, a) => naiveSees(axis, shape[a]!, i[a]!, j[a]!)) && seen.push(token));
    return seen;
  });
  for (let b = 0; b < B; b++)
    for (let i = 0; i < N; i++)
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * G) / H);
        const own = neighbours[i]!.map((j) => ({ k: key.data, v: value.data, row: (b * N + j) * G + g }));
        const extra = Array.from({ length: M }, (_, m) => ({ k: extraKey!.data, v: extraValue!.data, row: (b * M + m) * G + g }));
        const seen = [...own, ...extra];
        const scores = seen.map(({ k, row }) => {
          let dot = 0;
          for (let d = 0; d < D; d++) dot += query.data[((b * N + i) * H + h) * D + d]! * k[row * D + d]!;
          return (scale ?? D ** -0.5) * dot;
        });
        const top = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - top));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        seen.forEach(({ v, row }, at) => {
          for (let d = 0; d < Dv; d++) output[((b * N + i) * H + h) * Dv + d]! += (weights[at]! / total) * v[row * Dv + d]!;
        });
      }
  return { output: { shape: [B, ...shape, H, Dv], data: output } };
}
