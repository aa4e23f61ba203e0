import * as core from '@seqloom/core';
import { createGpujs } from '@seqloom/kernels-gpu/gpujs';
import { expect, it } from 'vitest';
import { contractOf, contracts, MATMUL } from '../contracts.ts';
import { parityCases } from './cases.ts';
import { inGpujs, measureKernel } from './measure.ts';
import type { ParityRow, Writing } from './measure.ts';
import { mergeRuns, parityPage, redReason } from './table.ts';
import type { ParityRun } from './table.ts';

const row = (changes: Partial<ParityRow> = {}): ParityRow => ({
  kernel: 'Rotary',
  cases: 2,
  outputs: 1e-7,
  gradients: 2e-7,
  faults: [],
  ...changes,
});
const run = (mode: string, rows: readonly ParityRow[], adapter = 'one'): ParityRun => ({
  writing: 'wgsl',
  mode,
  adapter,
  sources: 'abc, 2026-01-01',
  rows,
});

it('the table has every contract of core, with a case', () => {
  const named = Object.values(core).flatMap((value) =>
    typeof value === 'object' && value !== null && 'definition' in value ? [(value as { name: string }).name] : [],
  );
  expect(named.length).toBeGreaterThan(10);
  expect(contracts.map(({ kernel }) => kernel).toSorted()).toEqual([...named, MATMUL].toSorted());
  const cases = parityCases().map(({ kernel }) => kernel);
  expect(contracts.filter(({ kernel }) => !cases.includes(kernel))).toEqual([]);
});

it('measures outputs and gradients of the gpu.js writing', async () => {
  const gpujs = await createGpujs({ mode: 'cpu' });
  for (const kernel of ['Rotary', 'LinearScan', 'SoftmaxCrossEntropy', 'GatherRows', 'TopKRows', 'ComplexLinearScan']) {
    const found = await measureKernel(inGpujs(gpujs), kernel, parityCases());
    expect(found.faults, kernel).toEqual([]);
    expect(found.outputs, kernel).toBeLessThan(1e-6);
    expect(found.gradients, kernel).toBeLessThan(1e-6);
  }
  await gpujs.destroy();
});

it('a wrong result, a missing one and a failure show', async () => {
  const calls = parityCases();
  const writing = (change: (values: Float64Array) => ArrayLike<number> | null): Writing => ({
    has: ({ kernel }) => kernel !== 'AdamWStep',
    run: async (contract, { inputs, options }) => {
      const right = contractOf(contract.kernel).oracle(inputs, options);
      const outputs = Object.entries(right).flatMap(([name, { shape, data }]) => {
        const changed = change(data);
        return changed ? [[name, { shape, data: changed }]] : [];
      });
      return { outputs: Object.fromEntries(outputs) as never, gradients: null };
    },
  });
  const doubled = await measureKernel(
    writing((values) => values.map((value) => 2 * value)),
    'Rotary',
    calls,
  );
  expect(doubled).toMatchObject({ outputs: 1, gradients: null, cases: 2 });
  expect(redReason('webgpu', doubled)).toBe('outputs beyond 0.0002');
  const missing = await measureKernel(
    writing(() => null),
    'Rotary',
    calls,
  );
  expect(redReason('webgpu', missing)).toContain('outputs beyond');
  const fails = await measureKernel(
    writing(() => {
      throw new Error('no such shader\nline 2');
    }),
    'Rotary',
    calls,
  );
  expect(redReason('webgpu', fails)).toContain(': no such shader');
  expect(fails.faults).toHaveLength(2);
  const absent = await measureKernel(
    writing((values) => values),
    'AdamWStep',
    calls,
  );
  expect(absent).toMatchObject({ outputs: null, cases: 0 });
  expect(redReason('webgpu', absent)).toBeNull();
});

it('holds modes without a GPU to float32', () => {
  expect(redReason('cpu', row({ gradients: 5e-5 }))).toBe('gradients beyond 0.00002');
  expect(redReason('webgpu', row({ gradients: 5e-5 }))).toBeNull();
  expect(redReason('webgpu', row({ gradients: NaN }))).toContain('gradients beyond');
});

it('new runs take the place of old ones on the same adapter alone', () => {
  const before = [run('webgpu', [row()]), run('webgpu', [row()], 'another')];
  const now = [run('webgpu', [row({ outputs: 3e-7 })])];
  expect(mergeRuns(before, now)).toEqual([now[0], before[1]]);
});

it('the page has a line per kernel, a column per run, and says what is red', () => {
  const page = parityPage(
    [
      run('webgpu', [
        row(),
        row({ kernel: 'AdamWStep', gradients: null }),
        row({ kernel: 'Broken', outputs: null, gradients: null, faults: ['{}: no'] }),
      ]),
      run('cpu', [row({ outputs: 0.5 }), row({ kernel: 'AdamWStep', outputs: null, gradients: null, cases: 0 })]),
    ],
    'npm run parity:gpu',
  );
  expect(page).toContain('| kernel | cases | wgsl, webgpu | wgsl, cpu |');
  expect(page).toContain('| `Rotary` | 2 | 1.0e-7, 2.0e-7 | **5.0e-1, 2.0e-7** |');
  expect(page).toContain('| `AdamWStep` | 2 | 1.0e-7, none |  |');
  expect(page).toContain('| `Broken` | 2 | **red** |  |');
  expect(page).toContain('- Rotary, wgsl on cpu: outputs beyond 0.00002');
  expect(page).toContain('- Broken, wgsl on webgpu: {}: no');
});
