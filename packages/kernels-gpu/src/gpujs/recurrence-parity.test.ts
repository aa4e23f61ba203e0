import {
  centralDifferences,
  naiveComplexLinearScan,
  naiveLinearAttention,
  naiveLinearScan,
  naiveSelectiveScan,
  uniform64,
} from '@seqloom/testing';
import type { Array64, Arrays64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, expectClose, given } from './describe-modes.ts';
import {
  complexLinearScan,
  complexLinearScanGradient,
  linearAttentionGradient,
  linearScan,
  linearScanGradient,
  selectiveScan,
  selectiveScanGradient,
} from './index.ts';
import type { GpujsArray } from './index.ts';

/** Expects every gradient near the oracle's, and none that has no input. */
function expectGradients(label: string, found: Record<string, GpujsArray | undefined>, wanted: Arrays64): void {
  const names = (arrays: object): string[] => Object.keys(arrays).toSorted();
  expect(names(found), label).toEqual(names(wanted));
  expectClose(label, found, wanted);
}

describeModes('recurrences of gpu.js', (current) => {
  it.each([
    { time: 1, state: true, reverse: false, last: true },
    { time: 2, state: false, reverse: true, last: false },
    { time: 7, state: false, reverse: false, last: true },
    { time: 37, state: true, reverse: false, last: false },
    { time: 33, state: true, reverse: true, last: true },
  ])('complexLinearScan %j', async ({ time, state, reverse, last }) => {
    const inputs = {
      decayReal: uniform64([2, time, 3], 1, -0.7, 0.7),
      decayImaginary: uniform64([2, time, 3], 2, -0.7, 0.7),
      inputReal: uniform64([2, time, 3], 3),
      inputImaginary: uniform64([2, time, 3], 4),
      ...(state && { stateReal: uniform64([2, 3], 5), stateImaginary: uniform64([2, 3], 6) }),
    };
    const oracle = (x: typeof inputs): Arrays64 => naiveComplexLinearScan(x, { reverse });
    const wanted = naiveComplexLinearScan(inputs, { reverse });
    expectClose('complexLinearScan', await complexLinearScan(current.gpujs, given(inputs), { reverse }), wanted);
    const [cotangentReal, cotangentImaginary] = [uniform64([2, time, 3], 7), uniform64([2, time, 3], 8)];
    const [stateReal, stateImaginary] = [uniform64([2, 3], 9), uniform64([2, 3], 10)];
    const cotangents = { hiddenReal: cotangentReal, hiddenImaginary: cotangentImaginary, ...(last && { stateReal, stateImaginary }) };
    const gradients = centralDifferences(oracle, inputs, cotangents, Object.keys(inputs) as (keyof typeof inputs)[]);
    const { hiddenReal, hiddenImaginary } = wanted;
    const points = given({
      ...inputs,
      ...{ hiddenReal, hiddenImaginary, cotangentReal, cotangentImaginary },
      ...(last && { stateCotangentReal: stateReal, stateCotangentImaginary: stateImaginary }),
    });
    expectGradients('complexLinearScanGradient', await complexLinearScanGradient(current.gpujs, points, { reverse }), gradients);
  });

  it('complexLinearScan wants both parts of a state', async () => {
    const { real, state } = given({ real: uniform64([1, 2, 3], 1), state: uniform64([1, 3], 2) });
    const decay = { decayReal: real, decayImaginary: real };
    const parts = { ...decay, inputReal: real, inputImaginary: real };
    await expect(complexLinearScan(current.gpujs, { ...parts, stateReal: state })).rejects.toThrow(/stateImaginary/);
    await expect(complexLinearScan(current.gpujs, { ...parts, decayImaginary: state })).rejects.toThrow(/decayImaginary/);
    const points = { ...decay, hiddenReal: real, hiddenImaginary: real, cotangentReal: real, cotangentImaginary: real };
    const half = { ...points, stateCotangentImaginary: state };
    await expect(complexLinearScanGradient(current.gpujs, half)).rejects.toThrow(/stateCotangentReal/);
  });

  it('linearScan with decays above 1 whose product overflows, where the recurrence does not', async () => {
    const [time, channels] = [100, 2];
    const decay = uniform64([1, time, channels], 1, 10, 1000);
    // nothing is there to grow until the last steps
    const input = uniform64([1, time, channels], 2);
    input.data.fill(0, 0, 94 * channels);
    const wanted = naiveLinearScan({ decay, input });
    expectClose('linearScan', await linearScan(current.gpujs, given({ decay, input })), wanted);
    const cotangent = uniform64([1, time, channels], 3);
    cotangent.data.fill(0, 6 * channels);
    const oracle = (x: { decay: Array64; input: Array64 }): Arrays64 => naiveLinearScan(x);
    const gradients = centralDifferences(oracle, { decay, input }, { hidden: cotangent }, ['input']);
    const { input: found } = await linearScanGradient(current.gpujs, given({ decay, hidden: wanted.hidden, cotangent }));
    expectClose('linearScanGradient', { input: found }, gradients);
  });

  it.each([
    { time: 1, state: true, skip: false, last: true },
    { time: 7, state: false, skip: true, last: false },
    { time: 33, state: true, skip: true, last: true, chunkSize: 8 },
    { time: 20, state: false, skip: false, last: true, chunkSize: 19 },
    { time: 12, state: true, skip: false, last: false, chunkSize: 1 },
  ])('selectiveScan %j', async ({ time, state, skip, last, chunkSize }) => {
    const inputs = {
      input: uniform64([2, time, 3], 1),
      delta: uniform64([2, time, 3], 2, 0, 2),
      transition: uniform64([3, 4], 3, -2, -0.1),
      inputMatrix: uniform64([2, time, 4], 4),
      outputMatrix: uniform64([2, time, 4], 5),
      ...(skip && { skip: uniform64([3], 6) }),
      ...(state && { state: uniform64([2, 3, 4], 7) }),
    };
    const options = chunkSize ? { chunkSize } : {};
    const oracle = (x: typeof inputs): Arrays64 => naiveSelectiveScan(x);
    expectClose('selectiveScan', await selectiveScan(current.gpujs, given(inputs), options), naiveSelectiveScan(inputs));
    const [cotangent, stateCotangent] = [uniform64([2, time, 3], 8), uniform64([2, 3, 4], 9)];
    const cotangents = { output: cotangent, ...(last && { state: stateCotangent }) };
    const gradients = centralDifferences(oracle, inputs, cotangents, Object.keys(inputs) as (keyof typeof inputs)[]);
    const points = given({ ...inputs, cotangent, ...(last && { stateCotangent }) });
    expectGradients('selectiveScanGradient', await selectiveScanGradient(current.gpujs, points, options), gradients);
  });

  it('selectiveScan forgets everything at a step of 1e4, and refuses what does not fit', async () => {
    const inputs = {
      input: uniform64([1, 9, 2], 1),
      delta: uniform64([1, 9, 2], 2, 0, 1),
      transition: uniform64([2, 3], 3, -2, -1),
      inputMatrix: uniform64([1, 9, 3], 4),
      outputMatrix: uniform64([1, 9, 3], 5),
    };
    inputs.delta.data[8] = 1e4;
    const cotangent = uniform64([1, 9, 2], 6);
    const oracle = (x: typeof inputs): Arrays64 => naiveSelectiveScan(x);
    const gradients = centralDifferences(oracle, inputs, { output: cotangent }, Object.keys(inputs) as (keyof typeof inputs)[]);
    const points = given({ ...inputs, cotangent });
    expectGradients('selectiveScanGradient', await selectiveScanGradient(current.gpujs, points, { chunkSize: 4 }), gradients);
    await expect(selectiveScanGradient(current.gpujs, points, { chunkSize: 0 })).rejects.toThrow(/chunkSize/);
    await expect(selectiveScanGradient(current.gpujs, { ...points, cotangent: points.inputMatrix })).rejects.toThrow(/cotangent/);
    await expect(selectiveScanGradient(current.gpujs, { ...points, stateCotangent: points.input })).rejects.toThrow(/stateCotangent/);
  });

  it.each([
    { updateRule: 'linear', time: 7, decay: null, state: false, last: true, low: 0 },
    { updateRule: 'gated', time: 1, decay: [], state: true, last: true, low: -3 },
    { updateRule: 'gated', time: 21, decay: [3], state: true, last: false, low: -3 },
    { updateRule: 'gated', time: 9, decay: [], state: false, last: false, low: -1 },
    { updateRule: 'delta', time: 1, decay: null, state: true, last: true, low: 0 },
    { updateRule: 'delta', time: 21, decay: null, state: true, last: true, low: 0 },
    { updateRule: 'gated_delta', time: 19, decay: [], state: true, last: true, low: -3 },
    { updateRule: 'gated_delta', time: 17, decay: [3], state: true, last: true, low: -3 },
    { updateRule: 'gated_delta', time: 11, decay: [3], state: false, last: true, low: -100 },
  ] as const)('linearAttention %j', async ({ updateRule, time, decay, state, last, low }) => {
    const inputs = {
      query: uniform64([2, time, 4, 3], 1),
      key: uniform64([2, time, 2, 3], 2, -0.7, 0.7),
      value: uniform64([2, time, 2, 5], 3),
      ...(decay && { logDecay: uniform64([2, time, 2, ...decay], 4, low, 0) }),
      ...(updateRule.endsWith('delta') && { beta: uniform64([2, time, 2], 5, 0, 1) }),
      ...(state && { state: uniform64([2, 2, 3, 5], 6) }),
    };
    const options = { updateRule, chunkSize: 8 };
    const oracle = (x: typeof inputs): Arrays64 => naiveLinearAttention(x, { updateRule });
    const [cotangent, stateCotangent] = [uniform64([2, time, 4, 5], 7), uniform64([2, 2, 3, 5], 8)];
    const cotangents = { output: cotangent, ...(last && { state: stateCotangent }) };
    const gradients = centralDifferences(oracle, inputs, cotangents, Object.keys(inputs) as (keyof typeof inputs)[]);
    const points = given({ ...inputs, cotangent, ...(last && { stateCotangent }) });
    expectGradients('linearAttentionGradient', await linearAttentionGradient(current.gpujs, points, options), gradients);
  });

  // what decays by exp(-100) is lost, whatever stands beside it: no sum may carry it over
  it.each([
    { decay: [], every: 1 },
    { decay: [], every: 3 },
    { decay: [3], every: 2 },
  ])('linearAttentionGradient where every nth log decay is -100, %j', async ({ decay, every }) => {
    const logDecay = uniform64([1, 13, 2, ...decay], 4, -0.02, 0);
    logDecay.data.forEach((_, index) => {
      if (index % every === 0) logDecay.data[index] = -100;
    });
    const inputs = {
      query: uniform64([1, 13, 2, 3], 1),
      key: uniform64([1, 13, 2, 3], 2, -0.7, 0.7),
      value: uniform64([1, 13, 2, 4], 3),
      logDecay,
      beta: uniform64([1, 13, 2], 5, 0, 1),
      state: uniform64([1, 2, 3, 4], 6),
    };
    const options = { updateRule: 'gated_delta', scale: 2, chunkSize: 5 } as const;
    const oracle = (x: typeof inputs): Arrays64 => naiveLinearAttention(x, options);
    const [cotangent, stateCotangent] = [uniform64([1, 13, 2, 4], 7), uniform64([1, 2, 3, 4], 8)];
    const names = Object.keys(inputs) as (keyof typeof inputs)[];
    const gradients = centralDifferences(oracle, inputs, { output: cotangent, state: stateCotangent }, names);
    const points = given({ ...inputs, cotangent, stateCotangent });
    expectGradients('linearAttentionGradient', await linearAttentionGradient(current.gpujs, points, options), gradients);
  });

  it('linearAttentionGradient refuses what does not fit', async () => {
    const inputs = { query: uniform64([1, 3, 2, 2], 1), key: uniform64([1, 3, 1, 2], 2), value: uniform64([1, 3, 1, 4], 3) };
    const points = given({ ...inputs, beta: uniform64([1, 3, 1], 4), cotangent: uniform64([1, 3, 2, 4], 5) });
    const refused = (changes: object, rule: 'delta' | 'gated_delta', options = {}): Promise<unknown> =>
      linearAttentionGradient(current.gpujs, { ...points, ...changes }, { updateRule: rule, ...options });
    await expect(refused({}, 'gated_delta')).rejects.toThrow(/linearAttentionGradient: logDecay must be given/);
    await expect(refused({ cotangent: points.value }, 'delta')).rejects.toThrow(/cotangent must be of shape \[1, 3, 2, 4\]/);
    await expect(refused({ stateCotangent: points.key }, 'delta')).rejects.toThrow(/stateCotangent must be of shape \[1, 1, 2, 4\]/);
    await expect(refused({}, 'delta', { chunkSize: 2.5 })).rejects.toThrow(/chunkSize must be a whole number/);
  });
});
