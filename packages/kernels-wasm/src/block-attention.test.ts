import { blockAttention } from '@seqloom/core';
import type { BlockAttentionInputs } from '@seqloom/core';
import { array64, checkKernelParity, naiveBlockAttention, randomStream, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { it } from 'vitest';
import { describeBuilds } from './describe-builds.ts';

interface Shape {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly groups: number;
  readonly headDim: number;
  readonly valueDim: number;
  readonly queryBlock: number;
  readonly keyBlock: number;
  readonly chosen: number;
}

/** Each query block takes `chosen` different key blocks, with -1 in place of about a quarter of them. */
function randomCase(shape: Shape): Record<string, Array64> {
  const { batch, queries, keys, heads, groups, headDim, valueDim, queryBlock, keyBlock, chosen } = shape;
  const next = randomStream(9);
  const lists = Array.from({ length: batch * groups * Math.ceil(queries / queryBlock) }, () => {
    const order = Array.from({ length: Math.ceil(keys / keyBlock) }, (_, block) => ({ block, rank: next() }));
    order.sort((left, right) => left.rank - right.rank);
    return Array.from({ length: chosen }, (_, place) => (next() < 0.25 ? -1 : (order[place]?.block ?? -1)));
  });
  return {
    query: uniform64([batch, queries, heads, headDim], 1, -2, 2),
    key: uniform64([batch, keys, groups, headDim], 2, -2, 2),
    value: uniform64([batch, keys, groups, valueDim], 3),
    blocks: array64([batch, groups, Math.ceil(queries / queryBlock), chosen], lists.flat()),
  };
}

const base: Shape = { batch: 2, queries: 7, keys: 7, heads: 4, groups: 2, headDim: 3, valueDim: 2, queryBlock: 2, keyBlock: 3, chosen: 2 };

describeBuilds('BlockAttention', 'BlockAttention', () => {
  it.each([
    ['grouped heads, uneven ends', {}],
    ['one query', { queries: 1, keys: 6, queryBlock: 4, keyBlock: 4 }],
    ['more keys than queries', { queries: 3, keys: 11, heads: 2, groups: 1, chosen: 3 }],
    ['more slots than blocks', { queries: 5, keys: 4, chosen: 4, groups: 4 }],
    ['blocks of one', { queryBlock: 1, keyBlock: 1, chosen: 3, batch: 1 }],
    ['more readers of a block than a tile holds', { batch: 1, queries: 20, keys: 20, groups: 1, queryBlock: 1, keyBlock: 12 }],
    [
      'blocks longer than a tile',
      { batch: 1, queries: 60, keys: 130, heads: 2, groups: 1, headDim: 9, valueDim: 11, queryBlock: 55, keyBlock: 101 },
    ],
  ] as [string, Partial<Shape>][])('equals float64: %s', async (what, changed) => {
    const shape = { ...base, ...changed };
    const { queryBlock, keyBlock } = shape;
    for (const causal of [true, false]) {
      const options = { queryBlock, keyBlock, causal, ...(causal ? {} : { scale: 0.3 }) };
      await checkKernelParity('wasm', {
        inputs: randomCase(shape),
        integers: ['blocks'],
        run: (tensors) => blockAttention(tensors as unknown as BlockAttentionInputs, options),
        oracle: (arrays) => naiveBlockAttention(arrays as never, options) as never,
        // the log-sum-exp of a query without keys is not finite, so it takes no part in the loss
        lossTerms: ['output'],
        // finite differences of the largest case take long
        differentiate: what === 'blocks longer than a tile' && !causal ? [] : ['query', 'key', 'value'],
      });
    }
  });
});
