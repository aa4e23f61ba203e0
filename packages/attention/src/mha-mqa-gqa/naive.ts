/**
 * Multi-head, multi-query and grouped-query attention in float64 on plain arrays: the specification.
 *
 * | code | symbol | equation |
 * | --- | --- | --- |
 * | score | s_ij = scale q_i·k_j | Vaswani et al. 2017 eq. 1 |
 * | group | g(h) = floor(h G / H) | Ainslie et al. 2023, section 2.2: consecutive heads share a key head |
 * | maximum, total | m_i = max_j s_ij, l_i = sum_j e^(s_ij - m_i) | softmax, shift invariant |
 * | cap | c tanh(s / c) | Gemma 2, section 2 |
 * | sink | l_i += e^(z_h - m_i) | a learned logit without value |
 */

/** A dense float64 tensor, row-major. */
export interface NaiveTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What `naiveMultiHeadAttention` reads. */
export interface NaiveAttentionInputs {
  /** [B, T, H, D] */
  readonly query: NaiveTensor;
  /** [B, S, G, D] */
  readonly key: NaiveTensor;
  /** [B, S, G, Dv] */
  readonly value: NaiveTensor;
  /** [H] */
  readonly sinkLogits?: NaiveTensor | undefined;
}

/**
 * o_i = sum_j softmax_j(s_ij) v_j over the keys j that query i sees.
 *
 * @param options scale (default D^-0.5), softCap, and causal: query i of T sees keys j <= i + S - T
 * @returns output [B, T, H, Dv]
 */
export function naiveMultiHeadAttention(
  { query, key, value, sinkLogits }: NaiveAttentionInputs,
  options: { readonly causal?: boolean; readonly scale?: number; readonly softCap?: number | null } = {},
): { output: NaiveTensor } {
  const [B, T, H, D] = query.shape as [number, number, number, number];
  const [, S, G, Dv] = value.shape as [number, number, number, number];
  const { causal = false, scale = D ** -0.5, softCap = null } = options;
  const output = new Float64Array(B * T * H * Dv);
  for (let b = 0; b < B; b++)
    for (let i = 0; i < T; i++)
      for (let h = 0; h < H; h++) {
        const g = Math.floor((h * G) / H);
        const row = (b * T + i) * H + h;
        const scores: number[] = [];
        for (let j = 0; j < S && (!causal || j <= i + S - T); j++) {
          let s = 0;
          for (let d = 0; d < D; d++) s += query.data[row * D + d]! * key.data[((b * S + j) * G + g) * D + d]!;
          s *= scale;
          scores.push(softCap === null ? s : softCap * Math.tanh(s / softCap));
        }
        const z = sinkLogits ? sinkLogits.data[h]! : -Infinity;
        const maximum = Math.max(z, ...scores);
        const weights = scores.map((s) => Math.exp(s - maximum));
        const total = weights.reduce((sum, p) => sum + p, Math.exp(z - maximum));
        weights.forEach((p, j) => {
          for (let d = 0; d < Dv; d++) output[row * Dv + d]! += (p / total) * value.data[((b * S + j) * G + g) * Dv + d]!;
        });
      }
  return { output: { shape: [B, T, H, Dv], data: output } };
}
