// the same parity on the device of a WebGPU adapter: the tier's environment chooses the mode
import './attention-parity.test.ts';
import { uniform64 } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeModes, given } from './describe-modes.ts';
import { blockAttention, blockAttentionGradient, free, matmul, softmaxAttention, softmaxAttentionGradient } from './index.ts';
import type { GpujsArray, Placement } from './index.ts';

describeModes('attention, run by run on the device', (current) => {
  const inputs = given({
    key: uniform64([1, 5, 1, 3], 2),
    value: uniform64([1, 5, 1, 4], 3),
    bias: uniform64([1, 1, 5, 5], 4),
    sinkLogits: uniform64([2], 5),
    slopes: uniform64([2], 6, 0, 1),
  });
  const cotangents = given({ cotangent: uniform64([1, 5, 2, 4], 7), logSumExpCotangent: uniform64([1, 5, 2], 8) });
  const { key, value } = inputs;
  type Call = (placement: Placement, query: GpujsArray) => Promise<Record<string, GpujsArray>>;

  it.each<[string, Call]>([
    [
      'softmaxAttention',
      async (placement, query) => {
        const options = { causal: true, softCap: 2, blockSize: 2, ...placement };
        const found = await softmaxAttention(current.gpujs, { ...inputs, query }, options);
        const gradients = await softmaxAttentionGradient(current.gpujs, { ...inputs, query, ...found, ...cotangents }, options);
        return { ...found, ...Object.fromEntries(Object.entries(gradients).map(([name, array]) => [`by ${name}`, array])) };
      },
    ],
    [
      'blockAttention',
      async (placement, query) => {
        const options = { queryBlock: 2, keyBlock: 2, causal: true, ...placement };
        const blocks = Int32Array.of(0, -1, 1, 0, 2, 1);
        const found = await blockAttention(current.gpujs, { query, key, value, blocks }, options);
        const gradients = await blockAttentionGradient(current.gpujs, { query, key, value, blocks, ...found, ...cotangents }, options);
        return { ...found, ...Object.fromEntries(Object.entries(gradients).map(([name, array]) => [`by ${name}`, array])) };
      },
    ],
  ])('%s', async (_name, call) => {
    const { gpujs } = current;
    const left = given({ left: uniform64([10, 3], 1) }).left;
    const right = { shape: [3, 3], data: Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1) };
    const wanted = await call({}, { ...left, shape: [1, 5, 2, 3] });
    // an array on the device, as another kernel leaves it
    const { output } = await matmul(gpujs, { left, right }, { onDevice: true });
    const found = await call({ onDevice: true }, { ...output, shape: [1, 5, 2, 3] });
    expect(Object.keys(found)).toEqual(Object.keys(wanted));
    for (const [name, array] of Object.entries(found)) {
      expect(array.data).not.toBeInstanceOf(Float32Array);
      expect((await gpujs.toHost(array)).data, name).toEqual(wanted[name]!.data);
      free(array);
    }
    free(output);
  });
});
