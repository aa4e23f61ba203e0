import { selectiveScan, setupBackend } from '@seqloom/core';
import { checkKernelParity, kernelCases, naiveSelectiveScan, tensorOf, uniform64 } from '@seqloom/testing';
import type { KernelParityCase } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { implementSelectiveScan } from './selective-scan.ts';

function call(batch: number, time: number, channels: number, states: number, delta: [number, number], whole: boolean): KernelParityCase {
  return {
    inputs: {
      input: uniform64([batch, time, channels], 1, -2, 2),
      delta: uniform64([batch, time, channels], 2, ...delta),
      transition: uniform64([channels, states], 3, -3, -0.1),
      inputMatrix: uniform64([batch, time, states], 4),
      outputMatrix: uniform64([batch, time, states], 5),
      ...(whole ? { skip: uniform64([channels], 6), state: uniform64([batch, channels, states], 7) } : {}),
    },
    run: (inputs) => selectiveScan(inputs as never),
    oracle: (inputs) => naiveSelectiveScan(inputs as never),
    differentiate: ['input', 'delta', 'transition', 'inputMatrix', 'outputMatrix', 'skip', 'state'],
  };
}

describe('SelectiveScan in WGSL', () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [() => ({ label: 'wgsl', undo: implementSelectiveScan('wgsl') })], strict: true });
  });

  it.each(kernelCases().filter(({ kernel }) => kernel === 'SelectiveScan'))('equals its oracle: $options', (given) =>
    checkKernelParity('webgpu', given),
  );

  it.each<[string, KernelParityCase]>([
    ['one step', call(2, 1, 3, 3, [0.01, 1], true)],
    ['65 steps, neither skip nor state', call(1, 65, 3, 5, [0.01, 1], false)],
    ['more channels than a workgroup', call(1, 9, 37, 3, [0.01, 1], true)],
    ['steps of 30 to 100, which forget all', call(1, 20, 3, 3, [30, 100], true)],
    ['steps of 0, which change nothing', call(1, 20, 3, 3, [0, 0], true)],
  ])('equals its oracle: %s', (_, given) => checkKernelParity('webgpu', given));

  it('declines more states than registers, and says so', () => {
    const { inputs, run } = call(1, 1, 1, 65, [0.01, 1], false);
    expect(() => run(Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, tensorOf(array!)])))).toThrow(/65 states/);
  });

  it('equals its oracle over 100 steps of many states', async () => {
    await checkKernelParity('webgpu', { ...call(1, 100, 2, 17, [0.01, 0.5], true), differentiate: [] });
  });
});
