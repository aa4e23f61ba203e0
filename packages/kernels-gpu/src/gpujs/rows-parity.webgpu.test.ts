// the same parity on the device of a WebGPU adapter: the tier's environment chooses the mode
import './rows-parity.test.ts';
import { array64, uniform64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, given } from './describe-modes.ts';
import {
  adamWStep,
  causalConv1dGradient,
  expertMatMul,
  expertMatMulGradient,
  free,
  gatherRowsGradient,
  scatterAddRows,
  topKRows,
  topKRowsGradient,
} from './index.ts';
import type { GpujsArray, Placement } from './index.ts';

describeModes('gpu.js kernels of rows, run by run on the device', (current) => {
  const indices = Int32Array.of(2, 0, 2, 1);
  const experts = Int32Array.of(1, -1, 0, 1);
  const inputs = given({
    rows: uniform64([4, 6], 1),
    moment: array64([4, 6]),
    weight: uniform64([2, 6, 3], 2),
    cotangent: uniform64([4, 3], 3),
    sequence: uniform64([2, 3, 4], 4),
    taps: uniform64([4, 3], 5),
  });
  type Call = (placement: Placement, rows: GpujsArray) => Promise<Record<string, GpujsArray | undefined>>;

  it.each<[string, Call]>([
    ['scatterAddRows', (placement, rows) => scatterAddRows(current.gpujs, { rows, indices }, { rowCount: 3, ...placement })],
    [
      'gatherRowsGradient',
      (placement, rows) => gatherRowsGradient(current.gpujs, { cotangent: rows, indices }, { rowCount: 5, ...placement }),
    ],
    ['expertMatMul', (placement, rows) => expertMatMul(current.gpujs, { input: rows, experts, weight: inputs.weight }, placement)],
    [
      'expertMatMulGradient',
      (placement, rows) => {
        const { weight, cotangent } = inputs;
        return expertMatMulGradient(current.gpujs, { input: rows, experts, weight, cotangent }, placement);
      },
    ],
    [
      'causalConv1dGradient',
      (placement, rows) => {
        const { sequence, taps } = inputs;
        const cotangent = { ...rows, shape: [2, 3, 4] };
        return causalConv1dGradient(current.gpujs, { input: sequence, weight: taps, cotangent }, { activation: 'silu', ...placement });
      },
    ],
    [
      'adamWStep',
      async (placement, rows) => {
        const { moment } = inputs;
        const first = { parameter: rows, gradient: rows, firstMoment: moment, secondMoment: moment };
        const after = await adamWStep(current.gpujs, first, { learningRate: 0.1, step: 1, ...placement });
        const second = await adamWStep(current.gpujs, { ...after, gradient: rows }, { learningRate: 0.05, step: 2, ...placement });
        free(...Object.values(after));
        return second;
      },
    ],
    [
      'topKRows',
      async (placement, rows) => {
        const { values, indices: places } = await topKRows(current.gpujs, { input: rows }, { k: 2, ...placement });
        const { input } = await topKRowsGradient(current.gpujs, { indices: places, cotangent: values }, { width: 6, ...placement });
        return { values, places, input };
      },
    ],
  ])('%s', async (_name, call) => {
    const { gpujs } = current;
    const wanted = await call({}, inputs.rows);
    // an array on the device, as another kernel leaves it
    const whole = { rows: inputs.rows, indices: Int32Array.of(0, 1, 2, 3) };
    const { table } = await scatterAddRows(gpujs, whole, { rowCount: 4, onDevice: true });
    const found = await call({ onDevice: true }, table);
    expect(Object.keys(found)).toEqual(Object.keys(wanted));
    for (const [name, array] of Object.entries(found)) {
      expect(array!.data).not.toBeInstanceOf(Float32Array);
      expect((await gpujs.toHost(array!)).data, name).toEqual(wanted[name]!.data);
      free(array!);
    }
    free(table);
  });
});
