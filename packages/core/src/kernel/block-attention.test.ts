import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { array64, checkKernelParity, naiveBlockAttention, randomStream, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { blockAttention } from './block-attention.ts';
import type { BlockAttentionInputs, BlockAttentionOptions } from './block-attention.ts';

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

// each query block takes `chosen` different key blocks, with -1 in place of about a quarter of them
function randomCase(shape: Shape): Record<string, Array64> {
  const { batch, queries, keys, heads, groups, headDim, valueDim, queryBlock, keyBlock, chosen } = shape;
  const next = randomStream(9);
  const queryBlocks = Math.ceil(queries / queryBlock);
  const blocks = Array.from({ length: batch * groups * queryBlocks }, () => {
    const order = Array.from({ length: Math.ceil(keys / keyBlock) }, (_, block) => ({ block, rank: next() }));
    order.sort((left, right) => left.rank - right.rank);
    return Array.from({ length: chosen }, (_, place) => (next() < 0.25 ? -1 : (order[place]?.block ?? -1)));
  });
  return {
    query: uniform64([batch, queries, heads, headDim], 1, -2, 2),
    key: uniform64([batch, keys, groups, headDim], 2, -2, 2),
    value: uniform64([batch, keys, groups, valueDim], 3),
    blocks: array64([batch, groups, queryBlocks, chosen], blocks.flat()),
  };
}

function parity(options: BlockAttentionOptions) {
  return {
    integers: ['blocks'],
    run: (inputs: Record<string, tf.Tensor>) => blockAttention(inputs as unknown as BlockAttentionInputs, options),
    oracle: (inputs: Record<string, Array64>) => naiveBlockAttention(inputs as never, options),
    outputTolerance: 3e-6,
    gradientTolerance: 2e-5,
  };
}

const base: Shape = { batch: 2, queries: 7, keys: 7, heads: 4, groups: 2, headDim: 3, valueDim: 2, queryBlock: 2, keyBlock: 3, chosen: 2 };

describe.each(['cpu', 'wasm'])('block attention on %s', (backend) => {
  it.each([
    ['grouped heads, uneven ends', {}],
    ['one query', { queries: 1, keys: 6, queryBlock: 4, keyBlock: 4, chosen: 2 }],
    ['more keys than queries', { queries: 3, keys: 11, heads: 2, groups: 1, chosen: 3 }],
    ['more slots than blocks', { queries: 5, keys: 4, chosen: 4, groups: 4 }],
    ['blocks of one', { queryBlock: 1, keyBlock: 1, chosen: 3, batch: 1 }],
  ] as [string, Partial<Shape>][])('equals its oracle: %s', async (_what, changed) => {
    const shape = { ...base, ...changed };
    const inputs = randomCase(shape);
    for (const causal of [true, false]) {
      const { queryBlock, keyBlock } = shape;
      // the log-sum-exp of a query without keys is not finite, so it takes no part in this loss
      await checkKernelParity(backend, {
        ...parity({ queryBlock, keyBlock, causal, ...(causal ? {} : { scale: 0.3 }) }),
        inputs,
        lossTerms: ['output'],
        differentiate: ['query', 'key', 'value'],
      });
    }
  });

  it('takes one token and one key: the value itself, and no gradient for the query', async () => {
    const inputs = { ...randomCase({ ...base, queries: 1, keys: 1, chosen: 1 }), blocks: array64([2, 2, 1, 1], 0) };
    await checkKernelParity(backend, {
      ...parity({ queryBlock: 2, keyBlock: 3 }),
      inputs,
      lossTerms: ['output'],
      differentiate: ['value'],
    });
  });

  it('honours the gradient of its log-sum-exp', async () => {
    const inputs = randomCase(base);
    const blocks = array64(
      inputs['blocks']!.shape,
      Array.from(inputs['blocks']!.data, (_, place) => place % 2),
    );
    await checkKernelParity(backend, {
      ...parity({ queryBlock: 2, keyBlock: 3, causal: false }),
      inputs: { ...inputs, blocks },
      differentiate: ['query', 'key', 'value'],
    });
  });

  it('is full attention when every block is listed, and finite for scores of 1e4', async () => {
    const inputs = randomCase({ ...base, queries: 9, keys: 9 });
    const all = array64(
      [2, 2, 5, 3],
      Array.from({ length: 60 }, (_, place) => place % 3),
    );
    const large = array64(
      inputs['query']!.shape,
      inputs['query']!.data.map((x) => x * 4096),
    );
    const whole = array64([2, 2, 1, 1], 0);
    for (const query of [inputs['query']!, large]) {
      const full = naiveBlockAttention({ ...inputs, query, blocks: whole } as never, { queryBlock: 16, keyBlock: 16, causal: true });
      await checkKernelParity(backend, {
        ...parity({ queryBlock: 2, keyBlock: 3, causal: true }),
        inputs: { ...inputs, query, blocks: all },
        oracle: () => full,
        outputTolerance: 2e-5,
      });
    }
  });

  it('gives zeros, -Infinity and zero gradients where no block is listed', async () => {
    const inputs = randomCase(base);
    const none = array64(inputs['blocks']!.shape, -1);
    await checkKernelParity(backend, {
      ...parity({ queryBlock: 2, keyBlock: 3 }),
      inputs: { ...inputs, blocks: none },
      lossTerms: ['output'],
      differentiate: ['query', 'key', 'value'],
    });
  });
});

describe('block attention in tiles', () => {
  it('equals its oracle when one tile cannot hold all query blocks', async () => {
    // 4096 key rows of 64 numbers per query block: several tiles
    const shape = {
      ...base,
      batch: 1,
      queries: 24,
      keys: 4096,
      heads: 2,
      groups: 1,
      headDim: 32,
      valueDim: 32,
      queryBlock: 2,
      keyBlock: 2048,
      chosen: 2,
    };
    await checkKernelParity('wasm', { ...parity({ queryBlock: 2, keyBlock: 2048 }), inputs: randomCase(shape) });
  });
});

describe('the door of block attention', () => {
  const given = () => ({
    query: tf.ones([1, 4, 4, 2]),
    key: tf.ones([1, 4, 2, 2]),
    value: tf.ones([1, 4, 2, 2]),
    blocks: tf.zeros([1, 2, 2, 1], 'int32'),
  });
  it.each([
    ['a query of rank 3', { query: () => tf.ones([4, 4, 2]) }],
    ['key heads that do not divide', { key: () => tf.ones([1, 4, 3, 2]), value: () => tf.ones([1, 4, 3, 2]) }],
    ['a value of other length', { value: () => tf.ones([1, 5, 2, 2]) }],
    ['float blocks', { blocks: () => tf.zeros([1, 2, 2, 1]) }],
    ['a block that is not there', { blocks: () => tf.mul(tf.ones([1, 2, 2, 1], 'int32'), tf.scalar(2, 'int32')) }],
    ['too few query blocks', { blocks: () => tf.zeros([1, 2, 1, 1], 'int32') }],
  ] as [string, Partial<Record<keyof BlockAttentionInputs, () => tf.Tensor>>][])('refuses %s', (_what, changed) => {
    const made = () => Object.fromEntries(Object.entries(changed).map(([name, make]) => [name, make()]));
    expect(() => tf.tidy(() => blockAttention({ ...given(), ...made() }, { queryBlock: 2, keyBlock: 2 }))).toThrow(
      /^block-attention: .* must be .*; got .*\. /,
    );
  });

  it('refuses a call without block lengths', () => {
    expect(() => tf.tidy(() => blockAttention(given(), {} as never))).toThrow(/^block-attention: queryBlock must be/);
  });
});
