import { setupBackend, softmaxAttention } from '@seqloom/core';
import type { SoftmaxAttentionInputs, SoftmaxAttentionOptions } from '@seqloom/core';
import { array64, checkKernelParity, naiveSoftmaxAttention, tensorOf, uniform64 } from '@seqloom/testing';
import type { Array64, KernelParityCase } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { implementSoftmaxAttention } from './softmax-attention.ts';

interface Shape {
  readonly batch?: number;
  readonly queries?: number;
  readonly keys?: number;
  readonly heads?: number;
  readonly groups?: number;
  readonly keyDim?: number;
  readonly valueDim?: number;
}

function call(shape: Shape, options: SoftmaxAttentionOptions, more: Record<string, Array64> = {}): KernelParityCase {
  const { batch = 1, queries = 7, keys = queries, heads = 2, groups = heads, keyDim = 4, valueDim = 3 } = shape;
  return {
    inputs: {
      query: uniform64([batch, queries, heads, keyDim], 1, -2, 2),
      key: uniform64([batch, keys, groups, keyDim], 2, -2, 2),
      value: uniform64([batch, keys, groups, valueDim], 3),
      ...more,
    },
    run: (inputs) => softmaxAttention(inputs as unknown as SoftmaxAttentionInputs, options) as never,
    oracle: (inputs) => naiveSoftmaxAttention(inputs as never, options as never),
    differentiate: ['query', 'key', 'value', 'bias', 'sinkLogits', 'slopes'],
  };
}

const positions = (batch: number, values: readonly number[]): Array64 =>
  array64([batch, values.length], Array.from({ length: batch }, () => values).flat());
const upTo = (length: number, start = 0): number[] => Array.from({ length }, (_, index) => start + index);

describe('SoftmaxAttention in WGSL', () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [() => ({ label: 'wgsl', undo: implementSoftmaxAttention('wgsl') })], strict: true });
  });

  it.each<[string, Shape, SoftmaxAttentionOptions, Record<string, Array64>?]>([
    ['causal, 7 tokens', {}, { causal: true }],
    ['one token', { queries: 1 }, { causal: true }],
    ['causal, 65 tokens, grouped heads', { queries: 65, heads: 4, groups: 2 }, { causal: true }],
    ['one query over 70 keys, four heads per key head', { queries: 1, keys: 70, heads: 4, groups: 1 }, { causal: true }],
    ['neither causal nor square', { batch: 2, queries: 40, keys: 9, valueDim: 35 }, { scale: 0.3 }],
    [
      'one query over 300 keys, in parts',
      { batch: 2, queries: 1, keys: 300, heads: 4, groups: 2, keyDim: 2, valueDim: 2 },
      { causal: true, window: 40, sinks: 2 },
      { sinkLogits: uniform64([4], 5) },
    ],
    ['a window', { queries: 100 }, { causal: true, window: 5 }],
    ['a window on both sides, sinks and dilation', { queries: 70 }, { window: 9, sinks: 2, dilation: 2 }],
    ['sinks and a prefix, causal', { queries: 70 }, { causal: true, window: 6, sinks: 3, prefix: 5 }],
    ['a soft cap', { queries: 9 }, { causal: true, softCap: 1.5 }],
    ['wide heads', { queries: 5, heads: 1, keyDim: 40, valueDim: 140 }, {}],
    ['a bias per head, shared by rows', { batch: 2, queries: 9 }, {}, { bias: uniform64([1, 2, 9, 9], 4) }],
    ['a bias for all', { batch: 2, queries: 35, heads: 2 }, { causal: true }, { bias: uniform64([1, 1, 35, 35], 4) }],
    ['a bias per row', { batch: 2, queries: 5, heads: 4, groups: 2 }, {}, { bias: uniform64([2, 1, 5, 5], 4) }],
    [
      'slopes and sink logits',
      { queries: 40, heads: 4, groups: 2 },
      { causal: true },
      { slopes: uniform64([4], 4, 0, 1), sinkLogits: uniform64([4], 5) },
    ],
    [
      'positions of a ring of keys, some of which do not exist',
      { queries: 3, keys: 36 },
      { causal: true, window: 20 },
      {
        queryPositions: positions(1, upTo(3, 40)),
        keyPositions: positions(
          1,
          upTo(36).map((j) => (j < 5 ? -1 : ((j * 7) % 36) + 7)),
        ),
        bias: uniform64([1, 2, 3, 36], 6),
      },
    ],
    [
      'aligned positions, padding on the right',
      { batch: 2, queries: 40 },
      { causal: true, aligned: true },
      {
        keyPositions: positions(
          2,
          upTo(40).map((j) => (j < 33 ? j : -1)),
        ),
      },
    ],
  ])('equals its oracle: %s', (_, shape, options, more) => checkKernelParity('webgpu', call(shape, options, more)));

  it('declines more optional tensors than a device can bind, and says so', () => {
    const { inputs, run } = call(
      { queries: 2 },
      {},
      {
        bias: uniform64([1, 1, 2, 2], 4),
        slopes: uniform64([2], 5),
        sinkLogits: uniform64([2], 6),
        keyPositions: positions(1, [0, 1]),
      },
    );
    const tensors = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, tensorOf(array!)]));
    expect(() => run(tensors)).toThrow(/4 optional tensors/);
  });

  it('takes scores of 1e4 without overflow', async () => {
    const large = call({ queries: 40 }, { causal: true });
    const query = large.inputs['query']!;
    const inputs = {
      ...large.inputs,
      query: array64(
        query.shape,
        query.data.map((x) => x * 4096),
      ),
    };
    await checkKernelParity('webgpu', { ...large, inputs, differentiate: [], outputTolerance: 3e-5 });
  });

  it('gives zeros, -Infinity and zero gradients for rows that see nothing', async () => {
    const empty = call({ queries: 40, keys: 36 }, { causal: true });
    await checkKernelParity('webgpu', { ...empty, lossTerms: ['output'] });
    const hidden = call(
      { queries: 5 },
      {},
      {
        bias: array64(
          [1, 1, 5, 5],
          Array.from({ length: 25 }, (__, i) => (i < 5 ? -Infinity : 0)),
        ),
      },
    );
    await checkKernelParity('webgpu', { ...hidden, lossTerms: ['output'], differentiate: ['query', 'key', 'value'] });
  });
});
