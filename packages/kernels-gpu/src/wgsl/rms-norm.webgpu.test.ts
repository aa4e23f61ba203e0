import { setupBackend } from '@seqloom/core';
import { checkKernelParity, kernelCases, uniform64 } from '@seqloom/testing';
import { rmsNorm } from '@seqloom/core';
import { naiveRmsNorm } from '@seqloom/testing';
import { beforeAll, describe, it } from 'vitest';
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
});
