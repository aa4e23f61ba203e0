import { expect, it } from 'vitest';
import { OURS } from '../measure/candidate.ts';
import type { CaseResult } from '../measure/suite.ts';
import { GPUJS, gpujsTimes } from './writings.ts';

const result = (name: string, times: Record<string, number>): CaseResult =>
  ({ name, rows: Object.entries(times).map(([candidate, ms]) => ({ candidate, ms })) }) as unknown as CaseResult;

it('takes of every kernel the forward case that speaks most for gpu.js', () => {
  const times = gpujsTimes([
    result('LinearAttention gated, forward, T = 3', { [OURS]: 2, [GPUJS]: 8, composed: 1 }),
    result('LinearAttention gated_delta, forward, T = 3', { [OURS]: 2, [GPUJS]: 5 }),
    result('LinearAttention gated, forward + backward, T = 3', { [OURS]: 2, [GPUJS]: 1 }),
    result('LinearScan, forward, T = 3', { [OURS]: 2 }),
    result('ComplexLinearScan, forward, T = 3', { [OURS]: 3, [GPUJS]: 1 }),
  ]);
  expect(times).toMatchObject({ LinearAttention: 2.5, LinearScan: null, ComplexLinearScan: 0.333, RmsNorm: null });
});
