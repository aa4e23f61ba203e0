import { describe, expect, it } from 'vitest';
import { sizeOf } from './array.ts';
import type { GpujsArray } from './array.ts';
import { blockAttention, blockAttentionGradient, createGpujs, softmaxAttention, softmaxAttentionGradient } from './index.ts';
import type { Gpujs } from './index.ts';
import type { Value } from './program.ts';
import type { Call } from './run.ts';

function ones(...shape: number[]): GpujsArray & { data: Float32Array } {
  return { shape, data: new Float32Array(sizeOf(shape)).fill(1) };
}

/** Stands in for gpu.js: walks through a call's program and notes the size of every array that it makes. */
function surveyor(): { gpujs: Gpujs; sizes: number[] } {
  const sizes: number[] = [];
  const run = async (call: Call<unknown>): Promise<Record<string, Float32Array>> => {
    const views = Object.entries(call.inputs).filter(([, view]) => view);
    const steps = call.program(
      Object.fromEntries(views.map(([name, view]) => [name, { handle: name, extents: view!.extents }])),
      call.settings,
    );
    let next = steps.next();
    while (!next.done) {
      const { kernel, output, values } = next.value;
      expect(values.map((value) => (typeof value === 'object' ? 'Input' : 'number'))).toEqual(
        Object.values(kernel.argumentTypes).map((kind) => (kind === 'Input' ? 'Input' : 'number')),
      );
      sizes.push(sizeOf(output));
      next = steps.next({ handle: null, extents: output } satisfies Value);
    }
    return Object.fromEntries(Object.entries(next.value).map(([name, { extents }]) => [name, new Float32Array(sizeOf(extents))]));
  };
  return { gpujs: { run } as unknown as Gpujs, sizes };
}

describe('what attention in gpu.js holds', () => {
  /** The largest array of a forward and a backward pass, and the number of runs. */
  async function survey(time: number, window: number | null): Promise<{ largest: number; runs: number }> {
    const { gpujs, sizes } = surveyor();
    const inputs = {
      query: ones(1, time, 4, 8),
      key: ones(1, time, 2, 8),
      value: ones(1, time, 2, 8),
      keyPositions: ones(1, time),
      sinkLogits: ones(4),
      slopes: ones(4),
    };
    const options = { causal: true, softCap: 2, window, blockSize: 16 };
    const found = await softmaxAttention(gpujs, inputs, options);
    await softmaxAttentionGradient(gpujs, { ...inputs, ...found, cotangent: found.output }, options);
    return { largest: Math.max(...sizes), runs: sizes.length };
  }

  it('grows with T, never with T times S', async () => {
    // [16, T, 4] scores of one block of keys
    expect((await survey(256, null)).largest).toBe(16 * 256 * 4);
    expect((await survey(1024, 30)).largest).toBe(16 * 1024 * 4);
  });

  it('grows with T, not with the blocks of a list', async () => {
    const largest = async (chosen: number): Promise<number> => {
      const { gpujs, sizes } = surveyor();
      const inputs = { query: ones(1, 64, 4, 8), key: ones(1, 64, 2, 8), value: ones(1, 64, 2, 8), blocks: new Int32Array(2 * 8 * chosen) };
      const options = { queryBlock: 8, keyBlock: 16, causal: true };
      const found = await blockAttention(gpujs, inputs, options);
      await blockAttentionGradient(gpujs, { ...inputs, ...found, cotangent: found.output }, options);
      return Math.max(...sizes);
    };
    expect(await largest(1)).toBe(16 * 64 * 4);
    expect(await largest(4)).toBe(16 * 64 * 4);
  });
});

describe('attention that does not fit is one clear error before any work', () => {
  const query = ones(2, 4, 4, 3);
  const key = ones(2, 5, 2, 3);
  const good = { query, key, value: key };
  const blocks = new Int32Array(2 * 2 * 2);
  const lengths = { queryBlock: 2, keyBlock: 2 };
  const after = { output: ones(2, 4, 4, 3), logSumExp: ones(2, 4, 4), cotangent: ones(2, 4, 4, 3) };

  it.each<[string, (g: Gpujs) => Promise<unknown>]>([
    ['softmaxAttention: query must be of shape [any, any, any, any]', (g) => softmaxAttention(g, { ...good, query: ones(4, 4, 3) })],
    ['softmaxAttention: key must be of shape [2, any, any, 3]', (g) => softmaxAttention(g, { ...good, key: ones(2, 5, 2, 4) })],
    ['softmaxAttention: value must be of shape [2, 5, 2, any]', (g) => softmaxAttention(g, { ...good, value: ones(2, 4, 2, 3) })],
    ['heads of key must be a divisor of 4', (g) => softmaxAttention(g, { ...good, key: ones(2, 5, 3, 3), value: ones(2, 5, 3, 3) })],
    ['queryPositions must be of shape [2, 4]', (g) => softmaxAttention(g, { ...good, queryPositions: ones(1, 4) })],
    ['keyPositions must be of shape [2, 5]', (g) => softmaxAttention(g, { ...good, keyPositions: ones(2, 4) })],
    ['bias must be of shape [any, any, 4, 5]', (g) => softmaxAttention(g, { ...good, bias: ones(1, 1, 5, 4) })],
    ['bias must be [1 or 2, 1 or 4, 4, 5]; got [2, 2, 4, 5]', (g) => softmaxAttention(g, { ...good, bias: ones(2, 2, 4, 5) })],
    ['sinkLogits must be of shape [4]', (g) => softmaxAttention(g, { ...good, sinkLogits: ones(2) })],
    ['slopes must be of shape [4]', (g) => softmaxAttention(g, { ...good, slopes: ones(4, 1) })],
    ['options.window must be a whole number of at least 1', (g) => softmaxAttention(g, good, { window: 0 })],
    ['options.dilation must be a whole number', (g) => softmaxAttention(g, good, { dilation: 0.5 })],
    ['options.sinks must be a whole number of at least 0', (g) => softmaxAttention(g, good, { sinks: -1 })],
    ['options.prefix must be a whole number of at least 0', (g) => softmaxAttention(g, good, { prefix: NaN })],
    ['options.softCap must be a finite number above 0', (g) => softmaxAttention(g, good, { softCap: 0 })],
    ['options.scale must be a finite number', (g) => softmaxAttention(g, good, { scale: Infinity })],
    ['options.blockSize must be a whole number of at least 1', (g) => softmaxAttention(g, good, { blockSize: 0 })],
    [
      'queryPositions must be absent with options.aligned',
      (g) => softmaxAttention(g, { ...good, queryPositions: ones(2, 4) }, { aligned: true }),
    ],
    ['cotangent must be of shape [2, 4, 4, 3]', (g) => softmaxAttentionGradient(g, { ...good, ...after, cotangent: ones(2, 4, 4, 2) })],
    ['logSumExp must be of shape [2, 4, 4]', (g) => softmaxAttentionGradient(g, { ...good, ...after, logSumExp: ones(2, 4, 2) })],
    [
      'softmaxAttentionGradient: logSumExpCotangent must be of shape [2, 4, 4]',
      (g) => softmaxAttentionGradient(g, { ...good, ...after, logSumExpCotangent: ones(2, 4) }),
    ],
    ['blockAttention: options.queryBlock must be', (g) => blockAttention(g, { ...good, blocks }, { ...lengths, queryBlock: 0 })],
    ['blockAttention: options.keyBlock must be', (g) => blockAttention(g, { ...good, blocks }, { ...lengths, keyBlock: 1.5 })],
    ['blockAttention: options.scale must be a finite number', (g) => blockAttention(g, { ...good, blocks }, { ...lengths, scale: NaN })],
    ['blockAttention: blocks must be 8 numbers', (g) => blockAttention(g, { ...good, blocks: new Int32Array(9) }, lengths)],
    ['blockAttention: blocks must be 8 numbers', (g) => blockAttention(g, { ...good, blocks: new Int32Array(0) }, lengths)],
    ['blockAttention: blocks must be below 3', (g) => blockAttention(g, { ...good, blocks: blocks.map(() => 3) }, lengths)],
    ['blockAttention: blocks must be below 3', (g) => blockAttention(g, { ...good, blocks: blocks.map(() => -2) }, lengths)],
    [
      'blockAttentionGradient: output must be of shape',
      (g) => blockAttentionGradient(g, { ...good, ...after, blocks, output: ones(2, 4, 4, 2) }, lengths),
    ],
  ])('%s', async (message, call) => {
    const gpujs = await createGpujs({ mode: 'cpu' });
    await expect(call(gpujs)).rejects.toThrow(message);
    expect(gpujs.report()).toEqual([]);
    await gpujs.destroy();
  });
});
