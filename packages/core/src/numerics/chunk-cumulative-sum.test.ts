import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { checkKernelParity, naiveChunkCumulativeSum, uniform64 } from '@seqloom/testing';
import { chunkCumulativeSum } from './chunk-cumulative-sum.ts';

describe.each(['cpu', 'wasm'])('chunk cumulative sum on %s', (backend) => {
  it.each([
    { chunkSize: 4 },
    { chunkSize: 1 },
    { chunkSize: 100 },
    { chunkSize: 3, reverse: true },
    { chunkSize: 4, exclusive: true },
    { chunkSize: 4, exclusive: true, reverse: true },
  ])('equals its oracle with %j', async (options) => {
    for (const shape of [
      [2, 9, 3],
      [1, 1],
      [2, 8],
      [2, 5, 2, 3],
    ]) {
      await checkKernelParity(backend, {
        inputs: { input: uniform64(shape, 1) },
        run: (inputs) => ({ output: chunkCumulativeSum(inputs['input']!, options) }),
        oracle: (inputs) => ({ output: naiveChunkCumulativeSum(inputs['input']!, options) }),
        differentiate: ['input'],
        outputTolerance: 1e-6,
        gradientTolerance: 1e-6,
      });
    }
  });

  it('keeps small terms after a large past', async () => {
    await tf.setBackend(backend);
    const values = tf.tidy(() => {
      const input = tf.concat([tf.mul(tf.ones([1, 64]), -1e6), tf.mul(tf.ones([1, 2]), -1e-3)], 1);
      return chunkCumulativeSum(input, { chunkSize: 64 }).dataSync();
    });
    expect(values[65]).toBeCloseTo(-2e-3, 9);
  });
});

it('chunk cumulative sum refuses rank 1 and an empty chunk', () => {
  tf.tidy(() => {
    expect(() => chunkCumulativeSum(tf.ones([3]), { chunkSize: 2 })).toThrow(/^chunk-cumulative-sum: input must be/);
    expect(() => chunkCumulativeSum(tf.ones([1, 3]), { chunkSize: 0 })).toThrow(/^chunk-cumulative-sum: chunkSize must be/);
  });
});
