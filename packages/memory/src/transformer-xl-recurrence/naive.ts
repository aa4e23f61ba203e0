/**
 * Transformer-XL attention in float64 on plain arrays: the specification.
 *
 * | code | symbol | equation |
 * | --- | --- | --- |
 * | cached | M, keys before the first query | section 3.2 |
 * | contentBias, positionBias | u, v | section 3.3, terms (c) and (d) |
 * | relative | W_r R_delta, rows from the largest distance to 0 | section 3.3, terms (b) and (d) |
 * | earliest | first visible key of a query | segment recurrence |
 */

/** A dense float64 tensor, row-major. */
export interface NaiveArray {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What `naiveTransformerXlAttention` reads. */
export interface NaiveTransformerXlInputs {
  /** [B, T, H, D] */
  readonly query: NaiveArray;
  /** [B, S, H, D] */
  readonly key: NaiveArray;
  /** [B, S, H, V] */
  readonly value: NaiveArray;
  /** [S, H, D] */
  readonly relative: NaiveArray;
  /** [H, D] */
  readonly contentBias: NaiveArray;
  /** [H, D] */
  readonly positionBias: NaiveArray;
}

/**
 * o_i = sum_j softmax_j(((q_i + u) k_j + (q_i + v) r_(i + M - j)) / sqrt(D)) v_j over visible j <= i + M, M = S - T.
 *
 * @param options reach: largest distance that is seen; earliest: smallest visible key of query i of row b
 * @returns output [B, T, H, V]
 */
export function naiveTransformerXlAttention(
  inputs: NaiveTransformerXlInputs,
  options: { readonly reach?: number; readonly earliest?: (row: number, i: number) => number } = {},
): { output: NaiveArray } {
  const { query, key, value, relative, contentBias: u, positionBias: v } = inputs;
  const { reach = Infinity, earliest = (): number => 0 } = options;
  const [B, T, H, D] = query.shape as [number, number, number, number];
  const [, S, , V] = value.shape as [number, number, number, number];
  const cached = S - T;
  const output = new Float64Array(B * T * H * V);
  for (let b = 0; b < B; b++)
    for (let i = 0; i < T; i++)
      for (let h = 0; h < H; h++) {
        const scores: number[] = [];
        const first = Math.max(0, i + cached - reach, earliest(b, i));
        for (let j = first; j <= i + cached; j++) {
          const distance = i + cached - j;
          let s = 0;
          for (let d = 0; d < D; d++) {
            const q = query.data[((b * T + i) * H + h) * D + d]!;
            s += (q + u.data[h * D + d]!) * key.data[((b * S + j) * H + h) * D + d]!;
            s += (q + v.data[h * D + d]!) * relative.data[((S - 1 - distance) * H + h) * D + d]!;
          }
          scores.push(s / Math.sqrt(D));
        }
        const maximum = Math.max(...scores);
        const weights = scores.map((s) => Math.exp(s - maximum));
        const total = weights.reduce((a, c) => a + c, 0);
        weights.forEach((p, n) => {
          for (let e = 0; e < V; e++)
            output[((b * T + i) * H + h) * V + e]! += (p / total) * value.data[((b * S + first + n) * H + h) * V + e]!;
        });
      }
  return { output: { shape: [B, T, H, V], data: output } };
}
