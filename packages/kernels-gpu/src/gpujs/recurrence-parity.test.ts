import { centralDifferences, naiveComplexLinearScan, naiveLinearScan, naiveSelectiveScan, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, expectClose, given } from './describe-modes.ts';
import {
  complexLinearScan,
  complexLinearScanGradient,
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
});
