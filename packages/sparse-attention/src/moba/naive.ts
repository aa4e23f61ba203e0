/**
 * Mixture of block attention, the specification in double precision.
 *
 * Glossary (Lu et al. 2025, section 2; one head, rows are tokens)
 *   query, key, value   q_i, k_j, v_j   [B, T, H, D], [B, T, G, D], [B, T, G, Dv]; query head h reads key head floor(h G / H)
 *   blockSize           B               tokens per block
 *   topK                k               blocks that a query reads, its own included
 *   mean                kbar_b          mean of the keys of block b
 *   gate                g_ib            q_i kbar_b
 *   chosen              R_i             the own block of i and the k - 1 blocks before it with the largest gates, lower index first
 *   output              o_i             softmax over j in R_i, j <= i, of scale q_i k_j, times v_j
 */

/** A dense float64 tensor, row-major. */
export interface NaiveTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What `naiveMoba` reads. */
export interface NaiveMobaInputs {
  readonly query: NaiveTensor;
  readonly key: NaiveTensor;
  readonly value: NaiveTensor;
}

/** Settings of `naiveMoba`. */
export interface NaiveMobaSettings {
  readonly blockSize: number;
  readonly topK: number;
  /** default D^-0.5 */
  readonly scale?: number;
}

/** Output [B, T, H, Dv] of mixture of block attention. */
export function naiveMoba({ query, key, value }: NaiveMobaInputs, settings: NaiveMobaSettings): { output: NaiveTensor } {
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const [, , groups, valueDim] = value.shape as [number, number, number, number];
  const { blockSize, topK, scale = width ** -0.5 } = settings;
  const output = new Float64Array(batch * length * heads * valueDim);
  const product = (q: Float64Array, k: ArrayLike<number>): number => q.reduce((sum, channel, d) => sum + channel * k[d]!, 0);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const g = Math.floor((h * groups) / heads);
      const row = (x: NaiveTensor, t: number, head: number): Float64Array => {
        const start = ((b * x.shape[1]! + t) * x.shape[2]! + head) * x.shape[3]!;
        return x.data.subarray(start, start + x.shape[3]!);
      };
      const mean = (block: number): Float64Array => {
        const sum = new Float64Array(width);
        for (let j = block * blockSize; j < (block + 1) * blockSize; j++) row(key, j, g).forEach((k, d) => (sum[d]! += k / blockSize));
        return sum;
      };
      for (let i = 0; i < length; i++) {
        const q = row(query, i, h);
        const own = Math.floor(i / blockSize);
        const gates = Array.from({ length: own }, (_, block) => ({ block, gate: product(q, mean(block)) }));
        const best = gates.toSorted((a, c) => c.gate - a.gate || a.block - c.block).slice(0, topK - 1);
        const chosen = [...best.map(({ block }) => block), own];
        const tokens = chosen.flatMap((block) => Array.from({ length: blockSize }, (_, o) => block * blockSize + o)).filter((j) => j <= i);
        const scores = tokens.map((j) => scale * product(q, row(key, j, g)));
        const top = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - top));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        tokens.forEach((j, n) =>
          row(value, j, g).forEach((channel, d) => {
            output[((b * length + i) * heads + h) * valueDim + d]! += (weights[n]! / total) * channel;
          }),
        );
      }
    }
  }
  return { output: { shape: [batch, length, heads, valueDim], data: output } };
}
