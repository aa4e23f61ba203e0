import { rmsNorm, setupBackend } from '@seqloom/core';
import { checkKernelParity, kernelCases, naiveRmsNorm, uniform64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { useGpuKernels } from '../use-gpu-kernels.ts';

describe('RmsNorm in WGSL', () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels], strict: true });
  });
  it.each(kernelCases().filter(({ kernel }) => kernel === 'RmsNorm'))('equals its oracle: $options', (call) =>
    checkKernelParity('webgpu', call),
  );
  it('equals its oracle for many rows, wider than a workgroup', () =>
    checkKernelParity('webgpu', {
      inputs: { input: uniform64([300, 2], 1), weight: uniform64([2], 2) },
      run: (inputs) => ({ output: rmsNorm(inputs as never) }),
      oracle: (inputs) => naiveRmsNorm(inputs as never),
      differentiate: ['input', 'weight'],
    }));
  it('gives the same bits again, also for sums over rows', async () => {
    const [x, weight] = [tf.randomUniform([700, 33], -1, 1, 'float32', 1), tf.randomUniform([33], -1, 1, 'float32', 2)];
    const gradient = async () => {
      const made = tf.grad((w: tf.Tensor) => tf.sum(rmsNorm({ input: x, weight: w })))(weight);
      const values = await made.data();
      made.dispose();
      return values;
    };
    expect(await gradient()).toEqual(await gradient());
    tf.dispose([x, weight]);
  });
});
