import * as tf from '@tensorflow/tfjs-core';
import { setupBackend } from '@seqloom/core';
import { checkKernelParity, uniform64 } from '@seqloom/testing';
import { beforeEach, describe, expect, it } from 'vitest';
import type { AttentionInputs } from '../mha-mqa-gqa/parallel.ts';
import { slidingWindowAttention } from './chunk.ts';
import { SlidingWindowAttention } from './layer.ts';
import { naiveSlidingWindowAttention } from './naive.ts';
import type { NaiveWindowInputs } from './naive.ts';

describe.each(['cpu', 'wasm'] as const)('sliding-window attention on %s', (backend) => {
  beforeEach(async () => {
    await setupBackend(backend);
  });

  it('a two-sided window equals the naive form', async () => {
    const settings = { window: 3, sinks: 1, causal: false };
    await checkKernelParity(backend, {
      inputs: { query: uniform64([1, 9, 2, 2], 1), key: uniform64([1, 9, 2, 2], 2), value: uniform64([1, 9, 2, 2], 3) },
      run: (given) => tf.tidy(() => ({ output: slidingWindowAttention(given as unknown as AttentionInputs, settings).output })),
      oracle: (given) => naiveSlidingWindowAttention(given as unknown as NaiveWindowInputs, settings) as never,
      differentiate: ['query', 'key', 'value'],
    });
  });

  it('a token beyond the window has no say, a sink has', async () => {
    const layer = new SlidingWindowAttention({ dim: 4, heads: 1, window: 3, sinks: 1 });
    const x = uniform64([1, 9, 4], 1);
    const last = (changed: number | null): number[] =>
      tf.tidy(() => {
        const data = Float32Array.from(x.data, (value, i) => (Math.floor(i / 4) === changed ? value + 1 : value));
        return [...tf.slice(layer.forward(tf.tensor(data, [1, 9, 4])).output, [0, 8, 0]).dataSync()];
      });
    const base = last(null);
    for (const token of [1, 2, 3, 4, 5]) expect(last(token)).toEqual(base);
    for (const token of [0, 6, 7, 8]) expect(last(token)).not.toEqual(base);
    layer.dispose();
  });
});
