import type { NaiveTensor } from '../mha-mqa-gqa/naive.ts';

/**
 * Multi-head latent attention in float64 on plain arrays: the specification, in its expanded form.
 *
 * | code | symbol | equation (DeepSeek-V2, section 2.1) |
 * | --- | --- | --- |
 * | latent | c_j, normalised | (9) and the norm behind it |
 * | rotaryKey | k^r_j, one for all heads | (15) |
 * | keyOf | k^n_j = W_UK c_j | (10) |
 * | valueOf | v_j = W_UV c_j | (11) |
 * | score | s_ij = scale (q^n_i·k^n_j + q^r_i·k^r_j) | (17), (18) |
 */

/** What `naiveLatentAttention` reads. */
export interface NaiveLatentInputs {
  /** [B, T, H, Dn + Dr], the part without position first, the other one rotated */
  readonly query: NaiveTensor;
  /** [B, S, C] */
  readonly latent: NaiveTensor;
  /** [B, S, Dr], rotated */
  readonly rotaryKey?: NaiveTensor | undefined;
  /** [C, H, Dn + Dv], each head's keys first */
  readonly keyValueUp: NaiveTensor;
}

/**
 * o_i = sum_j softmax_j(s_ij) v_j over the tokens j that query i sees.
 *
 * @param options scale (default (Dn + Dr)^-0.5), and causal (default true): query i of T sees tokens j <= i + S - T
 * @returns output [B, T, H, Dv]
 */
export function naiveLatentAttention(
  { query, latent, rotaryKey, keyValueUp }: NaiveLatentInputs,
  options: { readonly causal?: boolean | undefined; readonly scale?: number | undefined } = {},
): { output: NaiveTensor } {
  const [B, T, H, D] = query.shape as [number, number, number, number];
  const [, S, C] = latent.shape as [number, number, number];
  const R = rotaryKey ? rotaryKey.shape[2]! : 0;
  const E = keyValueUp.shape[2]!;
  const N = D - R;
  const V = E - N;
  const { causal = true, scale = D ** -0.5 } = options;
  const up = (b: number, j: number, h: number, e: number): number => {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += latent.data[(b * S + j) * C + c]! * keyValueUp.data[(c * H + h) * E + e]!;
    return sum;
  };
  const output = new Float64Array(B * T * H * V);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++) {
      const keyOf = Array.from({ length: S }, (_, j) => Array.from({ length: N }, (__, n) => up(b, j, h, n)));
      const valueOf = Array.from({ length: S }, (_, j) => Array.from({ length: V }, (__, v) => up(b, j, h, N + v)));
      for (let i = 0; i < T; i++) {
        const row = (b * T + i) * H + h;
        const scores: number[] = [];
        for (let j = 0; j < S && (!causal || j <= i + S - T); j++) {
          let s = 0;
          for (let n = 0; n < N; n++) s += query.data[row * D + n]! * keyOf[j]![n]!;
          for (let r = 0; r < R; r++) s += query.data[row * D + N + r]! * rotaryKey!.data[(b * S + j) * R + r]!;
          scores.push(scale * s);
        }
        const maximum = Math.max(...scores);
        const weights = scores.map((s) => Math.exp(s - maximum));
        const total = weights.reduce((sum, p) => sum + p, 0);
        weights.forEach((p, j) => {
          for (let v = 0; v < V; v++) output[row * V + v]! += (p / total) * valueOf[j]![v]!;
        });
      }
    }
  return { output: { shape: [B, T, H, V], data: output } };
}
