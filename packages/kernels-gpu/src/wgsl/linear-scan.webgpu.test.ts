import { complexLinearScan, linearScan, setupBackend } from '@seqloom/core';
import { checkKernelParity, kernelCases, naiveComplexLinearScan, naiveLinearScan, uniform64 } from '@seqloom/testing';
import { beforeAll, describe, it } from 'vitest';
import { implementComplexLinearScan, implementLinearScan } from './linear-scan.ts';

describe('the linear scans in WGSL', () => {
  beforeAll(async () => {
    const kernels = [implementLinearScan, implementComplexLinearScan].map((implement) => () => ({
      label: 'wgsl',
      undo: implement('wgsl'),
    }));
    await setupBackend('webgpu', { kernels, strict: true });
  });

  it.each(kernelCases().filter(({ kernel }) => kernel.endsWith('LinearScan')))('equal their oracles: $kernel $options', (call) =>
    checkKernelParity('webgpu', call),
  );

  it.each([
    { length: 1, reverse: false, state: true },
    { length: 65, reverse: true, state: true },
    { length: 100, reverse: false, state: false },
  ])('T = $length, reverse $reverse, state $state, more channels than a workgroup', async ({ length, reverse, state }) => {
    const shape = [2, length, 70];
    const part = (seed: number, extents = shape) => uniform64(extents, seed, -0.7, 0.7);
    await checkKernelParity('webgpu', {
      inputs: { decay: part(1), input: part(2), ...(state ? { state: part(3, [2, 70]) } : {}) },
      run: (inputs) => linearScan(inputs as never, { reverse }),
      oracle: (inputs) => naiveLinearScan(inputs as never, { reverse }),
    });
    await checkKernelParity('webgpu', {
      inputs: {
        decayReal: part(1),
        decayImaginary: part(2),
        inputReal: part(3),
        inputImaginary: part(4),
        ...(state ? { stateReal: part(5, [2, 70]), stateImaginary: part(6, [2, 70]) } : {}),
      },
      run: (inputs) => complexLinearScan(inputs as never, { reverse }),
      oracle: (inputs) => naiveComplexLinearScan(inputs as never, { reverse }),
    });
  });

  it.each([false, true])('gradients over 65 steps with decays of 0, 1 and between, reverse %s', async (reverse) => {
    const shape = [1, 65, 3];
    const decay = uniform64(shape, 1, -1, 1);
    decay.data.forEach((_, index) => (decay.data[index] = index % 4 === 0 ? 0 : index % 4 === 1 ? 1 : decay.data[index]!));
    await checkKernelParity('webgpu', {
      inputs: { decay, input: uniform64(shape, 2), state: uniform64([1, 3], 3) },
      run: (inputs) => linearScan(inputs as never, { reverse }),
      oracle: (inputs) => naiveLinearScan(inputs as never, { reverse }),
      differentiate: ['decay', 'input', 'state'],
    });
    await checkKernelParity('webgpu', {
      inputs: {
        decayReal: uniform64(shape, 1, -0.7, 0.7),
        decayImaginary: uniform64(shape, 2, -0.7, 0.7),
        inputReal: uniform64(shape, 3),
        inputImaginary: uniform64(shape, 4),
      },
      run: (inputs) => complexLinearScan(inputs as never, { reverse }),
      oracle: (inputs) => naiveComplexLinearScan(inputs as never, { reverse }),
      differentiate: ['decayReal', 'decayImaginary', 'inputReal', 'inputImaginary'],
    });
  });
});
