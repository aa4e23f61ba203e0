import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { checkKernelParity, naiveCausalConv1d, naiveLinearScan, tensorOf, uniform64 } from '@seqloom/testing';
import { causalConv1d } from '../kernel/causal-conv1d.ts';
import type { CausalConv1dInputs } from '../kernel/causal-conv1d.ts';
import { columnSum } from './column-sum.ts';
import { linearScan } from '../kernel/linear-scan.ts';
import type { LinearScanInputs } from '../kernel/linear-scan.ts';
import { sliceTime } from './slice-time.ts';

describe.each(['cpu', 'wasm'])('large tensors on %s', (backend) => {
  it.each([
    [1, 300, 64],
    [3, 100, 64],
  ])('sliceTime equals slice for B %i, T %i, C %i', async (batch, time, channels) => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const input = tensorOf(uniform64([batch, time, channels], 1));
      for (const [start, count] of [
        [0, 1],
        [time - 1, 1],
        [17, 40],
        [0, time],
      ] as const) {
        const given = sliceTime(input, start, count);
        expect(given.shape).toEqual([batch, count, channels]);
        expect(given.dataSync()).toEqual(tf.slice(input, [0, start, 0], [batch, count, channels]).dataSync());
      }
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('the scan and the convolution equal their oracles', async () => {
    const shape = [2, 150, 80];
    await checkKernelParity(backend, {
      inputs: { decay: uniform64(shape, 1, 0.5, 1), input: uniform64(shape, 2), state: uniform64([2, 80], 3) },
      run: (inputs) => linearScan(inputs as LinearScanInputs),
      oracle: (inputs) => naiveLinearScan(inputs as never),
      outputTolerance: 2e-6,
    });
    await checkKernelParity(backend, {
      inputs: { input: uniform64(shape, 1), weight: uniform64([80, 4], 2), state: uniform64([2, 3, 80], 3) },
      run: (inputs) => causalConv1d(inputs as CausalConv1dInputs),
      oracle: (inputs) => naiveCausalConv1d(inputs as never),
      // 320 numbers; those of the input would take 24 000 runs of the oracle
      differentiate: ['weight'],
      outputTolerance: 2e-6,
    });
  });

  it('columnSum sums over all axes but the last', async () => {
    await tf.setBackend(backend);
    const sums = tf.tidy(() => columnSum(tf.tensor3d([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2])).dataSync());
    expect(Array.from(sums)).toEqual([16, 20]);
  });
});
