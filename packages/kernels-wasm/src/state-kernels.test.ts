import { selectiveScan, topK } from '@seqloom/core';
import { array64, checkKernelParity, naiveSelectiveScan, naiveTopK, randomStream, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import { it } from 'vitest';
import { describeBuilds } from './describe-builds.ts';

describeBuilds('SelectiveScan', 'SelectiveScan', () => {
  it.each([
    [2, 1, 3, 2],
    [1, 2, 1, 1],
    [2, 7, 3, 4],
    [1, 33, 2, 5],
    [1, 65, 2, 3],
    [1, 17, 5, 16],
    [1, 4, 18, 3],
  ])('equals float64 for B %i, T %i, C %i, N %i', async (batch, time, channels, states) => {
    const inputs: Record<string, Array64> = {
      input: uniform64([batch, time, channels], 1),
      delta: uniform64([batch, time, channels], 2, 0.01, 1),
      transition: uniform64([channels, states], 3, -3, -0.1),
      inputMatrix: uniform64([batch, time, states], 4),
      outputMatrix: uniform64([batch, time, states], 5),
      skip: uniform64([channels], 6),
      state: uniform64([batch, channels, states], 7),
    };
    const { skip: _skip, state: _state, ...bare } = inputs;
    for (const given of [inputs, bare]) {
      await checkKernelParity('wasm', {
        inputs: given,
        run: (tensors) => selectiveScan(tensors as never),
        oracle: naiveSelectiveScan as never,
        // at the very first step from no state the transition does not matter
        differentiate: Object.keys(given).filter((name) => name !== 'transition' || time > 1 || 'state' in given),
      });
    }
  });

  it('carries states from segment to segment', async () => {
    // the gradient takes 16 tokens of 16 channels at a time when they have 256 states each
    const [time, channels, states] = [18, 17, 256];
    await checkKernelParity('wasm', {
      inputs: {
        input: uniform64([1, time, channels], 1),
        delta: uniform64([1, time, channels], 2, 0.01, 1),
        transition: uniform64([channels, states], 3, -1, -0.1),
        inputMatrix: uniform64([1, time, states], 4),
        outputMatrix: uniform64([1, time, states], 5),
      },
      run: (tensors) => selectiveScan(tensors as never),
      oracle: naiveSelectiveScan as never,
      differentiate: ['input', 'delta'],
    });
  });

  it('forgets all where delta A is -100 and more', async () => {
    const inputs = {
      input: uniform64([1, 9, 2], 1),
      delta: uniform64([1, 9, 2], 2, 50, 90),
      transition: uniform64([2, 3], 3, -3, -2),
      inputMatrix: uniform64([1, 9, 3], 4),
      outputMatrix: uniform64([1, 9, 3], 5),
      state: uniform64([1, 2, 3], 7),
    };
    await checkKernelParity('wasm', {
      inputs,
      run: (tensors) => selectiveScan(tensors as never),
      oracle: naiveSelectiveScan as never,
      differentiate: ['input', 'inputMatrix', 'outputMatrix'],
    });
  });
});

describeBuilds('TopKRows', 'TopKRows', () => {
  const check = (input: Array64, k: number, differentiate: string[]): Promise<void> =>
    checkKernelParity('wasm', {
      inputs: { input },
      run: (tensors) => topK(tensors as never, { k }),
      oracle: (arrays) => naiveTopK(arrays as never, { k }),
      outputTolerance: 1e-12,
      differentiate,
    });
  it.each([
    [[3, 7], 3],
    [[2, 3, 5], 5],
    [[9], 1],
    [[4, 1], 1],
    [[2, 100], 17],
  ])('equals float64 for %j, k %i', (shape, k) => check(uniform64(shape, 1), k, ['input']));
  it.each([1, 2, 5, 31, 64])('takes the lower index first among ties, k %i', async (k) => {
    const next = randomStream(k);
    const tied = array64(
      [6, 64],
      Array.from({ length: 6 * 64 }, () => Math.floor(3 * next())),
    );
    await check(tied, k, []);
    const masked = array64([1, 64], -Infinity);
    masked.data[40] = 1;
    await check(masked, k, []);
  });
});
