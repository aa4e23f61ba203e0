import { blockAttention, setupBackend } from '@seqloom/core';
import type { BlockAttentionOptions } from '@seqloom/core';
import { array64, checkKernelParity, kernelCases, naiveBlockAttention, uniform64 } from '@seqloom/testing';
import type { KernelParityCase } from '@seqloom/testing';
import { beforeAll, describe, it } from 'vitest';
import { implementBlockAttention } from './block-attention.ts';

interface Shape {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly groups: number;
  readonly chosen: number;
}

// every query block takes `chosen` blocks from its own backwards, and none where there is no such block
function call(shape: Shape, options: BlockAttentionOptions): KernelParityCase {
  const { batch, queries, keys, heads, groups, chosen } = shape;
  const queryBlocks = Math.ceil(queries / options.queryBlock);
  const keyBlocks = Math.ceil(keys / options.keyBlock);
  const list = Array.from({ length: batch * groups * queryBlocks * chosen }, (_, place) => {
    const block = Math.floor(place / chosen) % queryBlocks;
    const wanted = ((block * options.queryBlock) / options.keyBlock) | 0;
    return wanted - (place % chosen) < keyBlocks ? Math.max(-1, wanted - (place % chosen)) : -1;
  });
  return {
    inputs: {
      query: uniform64([batch, queries, heads, 4], 1, -2, 2),
      key: uniform64([batch, keys, groups, 4], 2, -2, 2),
      value: uniform64([batch, keys, groups, 3], 3),
      blocks: array64([batch, groups, queryBlocks, chosen], list),
    },
    integers: ['blocks'],
    run: (inputs) => blockAttention(inputs as never, options),
    oracle: (inputs) => naiveBlockAttention(inputs as never, options),
    differentiate: ['query', 'key', 'value'],
  };
}

describe('BlockAttention in WGSL', () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [() => ({ label: 'wgsl', undo: implementBlockAttention('wgsl') })], strict: true });
  });

  it.each(kernelCases().filter(({ kernel }) => kernel === 'BlockAttention'))('equals its oracle: $options', (given) =>
    checkKernelParity('webgpu', given),
  );

  it.each<[string, Shape, BlockAttentionOptions]>([
    ['one query', { batch: 1, queries: 1, keys: 9, heads: 2, groups: 1, chosen: 1 }, { queryBlock: 4, keyBlock: 4 }],
    ['65 tokens', { batch: 1, queries: 65, keys: 65, heads: 4, groups: 2, chosen: 3 }, { queryBlock: 16, keyBlock: 8, causal: true }],
    [
      '70 query blocks of one token',
      { batch: 1, queries: 70, keys: 70, heads: 2, groups: 1, chosen: 2 },
      { queryBlock: 1, keyBlock: 8, causal: true },
    ],
    ['blocks larger than a tile', { batch: 1, queries: 50, keys: 50, heads: 2, groups: 1, chosen: 2 }, { queryBlock: 20, keyBlock: 40 }],
  ])('equals its oracle: %s', (_, shape, options) => checkKernelParity('webgpu', call(shape, options)));

  it('gives zeros, -Infinity and zero gradients where no block is listed', async () => {
    const given = call({ batch: 1, queries: 5, keys: 5, heads: 2, groups: 1, chosen: 1 }, { queryBlock: 2, keyBlock: 2 });
    given.inputs['blocks']!.data.fill(-1);
    await checkKernelParity('webgpu', { ...given, lossTerms: ['output'] });
  });
});
