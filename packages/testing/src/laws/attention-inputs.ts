import { uniform64 } from '../oracle/array64.ts';
import type { Array64, Arrays64 } from '../oracle/array64.ts';
import type { OpSubject } from './op-subject.ts';

/**
 * Random query [2, T, H, 4], key [2, T, G, 4] and value [2, T, G, 3] of an attention.
 *
 * @param heads query heads H
 * @param groups key heads G
 */
export function attentionInputs(length: number, seed: number, heads: number, groups: number): Record<'query' | 'key' | 'value', Array64> {
  return {
    query: uniform64([2, length, heads, 4], seed, -2, 2),
    key: uniform64([2, length, groups, 4], seed + 1, -2, 2),
    // small: one token has zero gradients of query and key, of which float32 leaves a rounding error of the values' size
    value: uniform64([2, length, groups, 3], seed + 2, -0.25, 0.25),
  };
}

/** Queries so long that the softmax is all but a choice. */
export function largeLogits(
  inputs: (length: number, seed: number) => Arrays64 & { readonly query: Array64 },
): NonNullable<OpSubject['hard']> {
  return [
    {
      title: 'logits of 1e4',
      // float32 keeps a logit of that size to 1e-3
      tolerance: 1e-3,
      inputs: () => {
        const arrays = inputs(20, 3);
        arrays.query.data.forEach((value, at, data) => (data[at] = Math.fround(5e3 * value)));
        return arrays;
      },
    },
  ];
}
