/**
 * Landmark attention, the specification in double precision.
 *
 * Glossary (Mohtashami and Jaggi 2023, section 3; one head, rows are tokens)
 *   query, key, value   q_i, k_j, v_j   [B, T, H, D], [B, T, G, D], [B, T, G, Dv]; query head h reads key head floor(h G / H)
 *   blockLength         l_block + 1     tokens per block, its landmark, the last one, included
 *   own                 blk(i)          block of the query
 *   retrieved           k               earlier blocks that a query may use, those with the largest landmark scores; null: all
 *   group G_0           -               ordinary tokens j <= i of the own block, and the landmarks of the usable earlier blocks
 *   group G_b           -               ordinary tokens of block b
 *   grouped softmax     p_ij            softmax within the group of j, equation 2
 *   weights             a_ij            p_ij in the own block, p_ij p_i,landmark(b) in block b, 0 for landmarks, equation 3
 *   slot                -               place of a block in front of the own one under stingy positions, section 3.2.2
 */

/** A dense float64 tensor, row-major. */
export interface NaiveTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** What `naiveLandmarkAttention` reads. */
export interface NaiveLandmarkInputs {
  readonly query: NaiveTensor;
  readonly key: NaiveTensor;
  readonly value: NaiveTensor;
}

/** Settings of `naiveLandmarkAttention`, all explicit. */
export interface NaiveLandmarkSettings {
  readonly blockLength: number;
  readonly retrieved: number | null;
  readonly positions: 'absolute' | 'stingy';
  /** null: no rotation */
  readonly rotaryBase: number | null;
  readonly scale?: number | undefined;
}

/** Turns the pairs (r, r + D / 2) of x by position base^(-2 r / D). */
function rotate(x: Float64Array, position: number, base: number | null): Float64Array {
  if (base === null) return x;
  const half = x.length / 2;
  return x.map((channel, d) => {
    const angle = position * base ** (-(d % half) / half);
    return d < half
      ? channel * Math.cos(angle) - x[d + half]! * Math.sin(angle)
      : channel * Math.cos(angle) + x[d - half]! * Math.sin(angle);
  });
}

/** Output [B, T, H, Dv] of landmark attention. */
export function naiveLandmarkAttention(inputs: NaiveLandmarkInputs, settings: NaiveLandmarkSettings): { output: NaiveTensor } {
  const { query, key, value } = inputs;
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const [, , groups, valueDim] = value.shape as [number, number, number, number];
  const { blockLength, retrieved, positions, rotaryBase, scale = width ** -0.5 } = settings;
  const output = new Float64Array(batch * length * heads * valueDim);
  const softmax = (scores: readonly number[]): number[] => {
    const top = Math.max(...scores);
    const raised = scores.map((score) => Math.exp(score - top));
    const total = raised.reduce((sum, weight) => sum + weight, 0);
    return raised.map((weight) => weight / total);
  };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const g = Math.floor((h * groups) / heads);
      const row = (x: NaiveTensor, t: number, head: number): Float64Array => {
        const start = ((b * x.shape[1]! + t) * x.shape[2]! + head) * x.shape[3]!;
        return x.data.subarray(start, start + x.shape[3]!);
      };
      for (let i = 0; i < length; i++) {
        const own = Math.floor(i / blockLength);
        const stingy = positions === 'stingy' && retrieved !== null;
        const usable = retrieved === null ? own : Math.min(retrieved, own);
        // slots 0 to k stand before the local tokens, which begin at slot k + 1
        const local = stingy ? usable + 1 : own;
        const q = rotate(row(query, i, h), local * blockLength + (i % blockLength), rotaryBase);
        const score = (j: number, slot: number): number => {
          const k = rotate(row(key, j, g), slot * blockLength + (j % blockLength), rotaryBase);
          return scale * q.reduce((sum, channel, d) => sum + channel * k[d]!, 0);
        };
        const landmark = (block: number): number => (block + 1) * blockLength - 1;
        const scored = Array.from({ length: own }, (_, block) => {
          const slot = stingy ? Math.max(0, block - (own - usable) + 1) : block;
          return { block, score: score(landmark(block), slot) };
        });
        const best = scored.toSorted((a, c) => c.score - a.score || a.block - c.block).slice(0, usable);
        const blocks = best.map(({ block }) => block).toSorted((a, c) => a - c);
        const slotOf = (block: number): number => (stingy ? blocks.indexOf(block) + (block >= own - usable ? 1 : 0) : block);
        const ordinary = (block: number): number[] =>
          Array.from({ length: blockLength - 1 }, (_, o) => block * blockLength + o).filter((j) => j <= i);
        const near = ordinary(own);
        const first = softmax([...near.map((j) => score(j, local)), ...blocks.map((block) => score(landmark(block), slotOf(block)))]);
        const add = (j: number, weight: number): void =>
          row(value, j, g).forEach((channel, d) => {
            output[((b * length + i) * heads + h) * valueDim + d]! += weight * channel;
          });
        near.forEach((j, n) => add(j, first[n]!));
        for (const [n, block] of blocks.entries()) {
          const tokens = ordinary(block);
          const shares = softmax(tokens.map((j) => score(j, slotOf(block))));
          tokens.forEach((j, m) => add(j, shares[m]! * first[near.length + n]!));
        }
      }
    }
  }
  return { output: { shape: [batch, length, heads, valueDim], data: output } };
}
