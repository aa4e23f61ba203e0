import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { array64, checkKernelParity, naiveTopK, randomStream, uniform64 } from '@seqloom/testing';
import { topK } from './top-k.ts';
import type { TopKInputs } from './top-k.ts';

function parity(k: number) {
  return {
    run: (inputs: Record<string, tf.Tensor>) => topK(inputs as unknown as TopKInputs, { k }),
    oracle: (inputs: Record<string, unknown>) => naiveTopK(inputs as never, { k }),
    outputTolerance: 1e-12,
  };
}

describe.each(['cpu', 'wasm'])('top-k on %s', (backend) => {
  it.each([
    [[3, 7], 3],
    [[2, 3, 5], 5],
    [[9], 1],
    [[4, 1], 1],
    [[2, 100], 17],
  ] as const)('equals its oracle for %j, k %i, gradient included', async (shape, k) => {
    await checkKernelParity(backend, {
      ...parity(k),
      inputs: { input: uniform64(shape, 1) },
      differentiate: ['input'],
      gradientTolerance: 1e-6,
    });
  });

  it.each([1, 2, 5, 31, 64])('takes the lower index first among ties, k %i', async (k) => {
    const next = randomStream(k);
    const tied = array64(
      [6, 64],
      Array.from({ length: 6 * 64 }, () => Math.floor(3 * next())),
    );
    await checkKernelParity(backend, { ...parity(k), inputs: { input: tied } });
    await checkKernelParity(backend, { ...parity(k), inputs: { input: array64([2, 64], 0) } });
    const masked = array64([1, 64], -Infinity);
    masked.data[40] = 1;
    await checkKernelParity(backend, { ...parity(k), inputs: { input: masked } });
  });
});

describe('the door of top-k', () => {
  it.each([
    ['more than there are', () => topK({ input: tf.ones([2, 3]) }, { k: 4 })],
    ['none', () => topK({ input: tf.ones([2, 3]) }, { k: 0 })],
    ['a scalar', () => topK({ input: tf.scalar(1) }, { k: 1 })],
    ['integers', () => topK({ input: tf.tensor1d([1], 'int32') }, { k: 1 })],
  ])('refuses %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^top-k: .* must be .*; got .*\. /);
  });
});
