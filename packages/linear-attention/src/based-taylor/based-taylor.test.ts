import { setupBackend } from '@seqloom/core';
import { checkKernelParity, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import type * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { LinearAttentionTensors } from '../linear-attention/settings.ts';
import { card } from './card.ts';
import { BasedTaylor } from './layer.ts';
import { naiveTaylorAttention } from './naive.ts';
import type { NaiveTaylorInputs } from './naive.ts';
import { taylorAttention } from './op.ts';
import type { TaylorAttentionSettings } from './op.ts';

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  const query = uniform64([2, 9, 4, 3], 1, -2, 2);
  const key = (length: number): Array64 => uniform64([2, length, 2, 3], 2, -2, 2);
  const value = (length: number): Array64 => uniform64([2, length, 2, 5], 3);
  const mask = { shape: [2, 6], data: Float64Array.of(1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0) };
  const parity = (inputs: Record<string, Array64>, settings: TaylorAttentionSettings, visible: (row: number, i: number) => number) =>
    checkKernelParity(backend, {
      inputs,
      differentiate: ['query', 'key', 'value'],
      run: ({ mask: given, visible: counts, ...tensors }) => {
        const extra = { ...(given ? { mask: given } : {}), ...(counts ? { visible: counts } : {}) };
        const { output, state } = taylorAttention(tensors as unknown as LinearAttentionTensors, { ...settings, ...extra });
        return { output, memory: state.memory as tf.Tensor };
      },
      oracle: (arrays) =>
        naiveTaylorAttention(arrays as unknown as NaiveTaylorInputs, {
          normalise: true,
          epsilon: 1e-6,
          symmetric: true,
          visible,
        }) as unknown as Record<string, Array64>,
    });

  it('noncausal-self sees every token, with and without a mask', async () => {
    await parity({ query, key: key(9), value: value(9) }, { pattern: 'noncausal-self' }, () => 9);
    await parity({ query: uniform64([2, 6, 4, 3], 4), key: key(6), value: value(6), mask }, { pattern: 'noncausal-self' }, () => 6);
  });

  it('noncausal-cross with a mask sees every token of the context', async () => {
    await parity({ query, key: key(6), value: value(6), mask }, { pattern: 'noncausal-cross' }, () => 6);
  });

  it.each(['parallel', 'chunk', 'recurrent'] as const)('causal-cross in the %s form shows query i the keys 0 to i', async (form) => {
    for (const keys of [6, 13]) {
      await parity({ query, key: key(keys), value: value(keys) }, { pattern: 'causal-cross', form, chunkSize: 4 }, (_, i) => i + 1);
    }
  });

  it('causal-cross with a number of visible keys per query', async () => {
    const visible = { shape: [2, 9], data: Float64Array.of(1, 1, 2, 2, 3, 4, 5, 6, 6, 2, 3, 3, 3, 4, 4, 5, 5, 5) };
    await parity({ query, key: key(6), value: value(6), visible }, { pattern: 'causal-cross' }, (row, i) => visible.data[row * 9 + i]!);
  });

  it.each(['parallel', 'chunk', 'recurrent'] as const)('padding in the middle changes nothing, %s', async (form) => {
    await parity({ query: uniform64([2, 6, 4, 3], 5), key: key(6), value: value(6), mask }, { form }, (_, i) => i + 1);
  });

  it('the state has the size of the formula, 153 features of 65 numbers for 16 and 64 channels', () => {
    const layer = new BasedTaylor({ dim: 128, heads: 2 });
    expect(layer.stateBytes(1, 1000)).toBe(4 * (2 * 153 * 65 + 1));
    expect(card.stateBytes(1000, { heads: 2 })).toBe(layer.stateBytes(1, 1000));
    layer.dispose();
  });
});
