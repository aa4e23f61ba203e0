import { setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import type { Outputs } from '../measure/candidate.ts';
import { gpuCalls, gradientCalls } from './calls.ts';
import { contractOf, contracts, tensorOf } from './contracts.ts';

describe('calls of the suite gpu', () => {
  it('reach every contract, and on a real GPU have the extents of the floors', () => {
    const start = performance.now();
    const real = gpuCalls('real');
    // hundreds of millions of numbers are described, not drawn
    expect(performance.now() - start).toBeLessThan(2000);
    for (const size of ['quick', 'emulated', 'real'] as const) {
      expect([...new Set(gpuCalls(size).map(({ kernel }) => kernel))].toSorted()).toEqual(contracts.map(({ kernel }) => kernel).toSorted());
      const names = [...gpuCalls(size)].map(({ title, shape }) => `${title}, ${shape}`);
      expect(new Set(names).size).toBe(names.length);
    }
    expect(real.filter(({ kernel }) => kernel === 'LinearAttention').map(({ shape }) => shape)).toEqual(
      new Array(4).fill('T = 16384, H = 16, D = 128'),
    );
    const { bytes, inputs } = real.find(({ kernel }) => kernel === 'SoftmaxAttention')!;
    expect(bytes).toBe(4 * (4 * 4096 * 16 * 64 + 4096 * 16));
    expect(inputs['query']!.shape).toEqual([1, 4096, 16, 64]);
  });

  it('are held to double precision: composed results pass their checks, wrong ones do not', async () => {
    await setupBackend('cpu', { kernels: [] });
    for (const call of gpuCalls('quick')) {
      const { kernel, title, options, bytes } = call;
      const contract = contractOf(kernel);
      const tensors = Object.fromEntries(Object.entries(call.inputs).map(([name, array]) => [name, tensorOf(name, array)]));
      const results = contract.run(tensors, options);
      const made = [...Object.values(tensors), ...Object.values(results)].reduce((sum, tensor) => sum + 4 * tensor.size, 0);
      expect(bytes, `${title}: bytes of inputs and outputs`).toBe(made);
      const outputs = Object.fromEntries(Object.entries(results).map(([name, tensor]) => [name, tensor.dataSync()])) as Outputs;
      expect(outputs, title).toHaveProperty(call.gradient.output.name);
      const checks = call.checks?.(call.inputs) ?? [];
      expect(checks.map((check) => check(outputs)).filter((fault) => fault !== null)).toEqual([]);
      const wrong = Object.fromEntries(Object.entries(outputs).map(([name, values]) => [name, Array.from(values, (value) => value + 1)]));
      for (const check of checks) expect(check(wrong), title).toContain('against the float64 oracle');
      tf.dispose([tensors, Object.values(results)]);
    }
  });

  it('have gradients for what training spends its time in', () => {
    const kernels = gradientCalls('emulated').map(({ kernel }) => kernel);
    expect(kernels).toEqual(expect.arrayContaining(['LinearAttention', 'SoftmaxAttention', 'SelectiveScan', 'RmsNorm']));
    for (const { gradient, inputs } of gradientCalls('real')) {
      expect(gradient.differentiate.length).toBeGreaterThan(0);
      expect(Object.keys(inputs)).toEqual(expect.arrayContaining([...gradient.differentiate]));
    }
  });
});
