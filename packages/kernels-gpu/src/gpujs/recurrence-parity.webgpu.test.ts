// the same parity on the device of a WebGPU adapter: the tier's environment chooses the mode
import './recurrence-parity.test.ts';
import { uniform64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, given } from './describe-modes.ts';
import {
  complexLinearScan,
  complexLinearScanGradient,
  free,
  linearAttention,
  linearAttentionGradient,
  linearScan,
  selectiveScan,
  selectiveScanGradient,
} from './index.ts';
import type { GpujsArray, Placement } from './index.ts';

describeModes('recurrences of gpu.js, run by run on the device', (current) => {
  const sequence = given({ x: uniform64([2, 7, 3], 1), a: uniform64([2, 7, 3], 2, 0, 1), state: uniform64([2, 3, 4], 3) });
  const { x, a, state } = sequence;
  const matrices = given({
    inputMatrix: uniform64([2, 7, 4], 4),
    outputMatrix: uniform64([2, 7, 4], 5),
    transition: uniform64([3, 4], 6, -1, 0),
  });
  const heads = given({ query: uniform64([1, 7, 2, 3], 7), key: uniform64([1, 7, 1, 3], 8), value: uniform64([1, 7, 1, 4], 9) });
  const gates = given({ logDecay: uniform64([1, 7, 1, 3], 10, -1, 0), beta: uniform64([1, 7, 1], 11, 0, 1) });
  type Results = Record<string, GpujsArray | undefined>;

  // what the gradient reads comes from a call that left it on the device
  it.each<[string, (placement: Placement) => Promise<Results>]>([
    [
      'complexLinearScan',
      async (placement) => {
        const decay = { decayReal: a, decayImaginary: x };
        const found = await complexLinearScan(
          current.gpujs,
          { ...decay, inputReal: x, inputImaginary: a },
          { reverse: true, ...placement },
        );
        const { hiddenReal, hiddenImaginary } = found;
        const points = { ...decay, hiddenReal, hiddenImaginary, cotangentReal: hiddenImaginary, cotangentImaginary: a };
        return { ...found, ...(await complexLinearScanGradient(current.gpujs, points, { reverse: true, ...placement })) };
      },
    ],
    [
      'selectiveScan',
      async (placement) => {
        const inputs = { ...matrices, input: x, delta: a, state };
        const options = { chunkSize: 3, ...placement };
        const { output, state: last } = await selectiveScan(current.gpujs, inputs, options);
        const points = { ...inputs, cotangent: output, stateCotangent: last };
        return { output, last, ...(await selectiveScanGradient(current.gpujs, points, options)) };
      },
    ],
    [
      'linearAttention',
      async (placement) => {
        const inputs = { ...heads, ...gates };
        const options = { updateRule: 'gated_delta', chunkSize: 3, ...placement } as const;
        const { output, state: last } = await linearAttention(current.gpujs, inputs, options);
        const points = { ...inputs, cotangent: output, stateCotangent: last };
        return { output, last, ...(await linearAttentionGradient(current.gpujs, points, options)) };
      },
    ],
    ['linearScan', (placement) => linearScan(current.gpujs, { decay: a, input: x }, placement)],
  ])('%s', async (_name, call) => {
    const wanted = await call({});
    const found = await call({ onDevice: true });
    expect(Object.keys(found)).toEqual(Object.keys(wanted));
    for (const [name, array] of Object.entries(found)) {
      expect(array!.data).not.toBeInstanceOf(Float32Array);
      expect((await current.gpujs.toHost(array!)).data, name).toEqual(wanted[name]!.data);
    }
    free(...Object.values(found).map((array) => array!));
  });
});
