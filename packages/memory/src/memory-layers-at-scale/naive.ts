/**
 * The specification of a product-key memory, one token, in float64: every slot's score is formed, and the best are taken.
 *
 * | code | symbol | where |
 * | --- | --- | --- |
 * | `query` | q, its halves q1 and q2 | section 2.1 |
 * | `keys` | C1, C2 | section 2.1 |
 * | `values` | V, slot i n + j | section 2.1 |
 * | `topK` | k | section 2.1 |
 */
type Vector = Float64Array;

/** What a token looks up in; H heads share the table. */
export interface NaiveTable {
  /** [H][2][n], vectors of half the key's width */
  readonly keys: readonly (readonly (readonly Vector[])[])[];
  /** [n * n], vectors */
  readonly values: readonly Vector[];
}

const dot = (a: Vector, b: Vector): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

/** y = sum over heads of sum over the k best slots of softmax(score) V, from a token's query per head. */
export function naiveProductKeyMemory(
  query: readonly Vector[],
  { keys, values }: NaiveTable,
  { topK, weighting }: { readonly topK: number; readonly weighting: 'softmax' | 'relu' },
): Vector {
  const output = new Float64Array(values[0]!.length);
  for (const [h, q] of query.entries()) {
    const half = q.length / 2;
    const [first, second] = keys[h]! as [Vector[], Vector[]];
    const scores = first.flatMap((a) => second.map((b) => dot(q.slice(0, half), a) + dot(q.slice(half), b)));
    // slot i n + j has keys i and j; of equal scores the lower slot goes first
    const best = scores.map((_, slot) => slot).toSorted((a, b) => scores[b]! - scores[a]! || a - b);
    const chosen = best.slice(0, topK);
    const top = scores[chosen[0]!]!;
    const raw = chosen.map((slot) => (weighting === 'softmax' ? Math.exp(scores[slot]! - top) : Math.max(0, scores[slot]!)));
    const total = weighting === 'softmax' ? raw.reduce((a, b) => a + b, 0) : 1;
    for (const [i, slot] of chosen.entries()) values[slot]!.forEach((value, d) => (output[d]! += (raw[i]! / total) * value));
  }
  return output;
}
