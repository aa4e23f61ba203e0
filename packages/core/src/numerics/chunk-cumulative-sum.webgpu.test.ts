import { checkKernelParity, naiveChunkCumulativeSum, uniform64 } from '@seqloom/testing';
import { describe, it } from 'vitest';
import { setupBackend } from '../index.ts';
import { chunkCumulativeSum } from './chunk-cumulative-sum.ts';

// several lengths in one run: programs of a shorter one must not serve a longer one
describe.each([false, true])('chunk cumulative sum on webgpu, reverse %s', (reverse) => {
  it.each([3, 9, 70])('equals its oracle with its gradient at %i steps', async (length) => {
    await setupBackend('webgpu');
    const options = { chunkSize: length, reverse };
    await checkKernelParity('webgpu', {
      inputs: { input: uniform64([2, length, 3], 1) },
      run: (inputs) => ({ output: chunkCumulativeSum(inputs['input']!, options) }),
      oracle: (inputs) => ({ output: naiveChunkCumulativeSum(inputs['input']!, options) }),
      differentiate: ['input'],
      outputTolerance: 1e-6,
      gradientTolerance: 1e-6,
    });
  });
});
