import { spawnSync } from 'node:child_process';
import { SeqLoomError } from '@seqloom/core';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createGpujs, gatherRows, linearAttention, linearScan, matmul, rmsNorm, rotary, softmaxCrossEntropy } from './index.ts';
import type { Gpujs, GpujsArray } from './index.ts';

function ones(...shape: number[]): GpujsArray & { data: Float32Array } {
  return { shape, data: new Float32Array(shape.reduce((product, extent) => product * extent, 1)).fill(1) };
}

afterEach(() => {
  vi.doUnmock('gpu.js');
  vi.resetModules();
});

describe('createGpujs', () => {
  it('says what to install when gpu.js is absent', async () => {
    vi.resetModules();
    vi.doMock('gpu.js', () => {
      throw new Error("Cannot find package 'gpu.js'");
    });
    const fresh = await import('./index.ts');
    await expect(fresh.createGpujs()).rejects.toThrow(/createGpujs: package gpu\.js must be installed .*npm install gpu\.js/s);
  });

  it('refuses a mode that this runtime lacks', async () => {
    await expect(createGpujs({ mode: 'webgl2' })).rejects.toThrow('createGpujs: mode must be one that this runtime has');
    await expect(createGpujs({ mode: 'cuda' as 'cpu' })).rejects.toBeInstanceOf(SeqLoomError);
  });

  it.each([
    ['cpu', 'generic'],
    ['webasm', 'fused-sync'],
  ] as const)('reports what really ran: %s, %s', async (mode, executor) => {
    const gpujs = await createGpujs({ mode });
    await linearScan(gpujs, { decay: ones(1, 4, 2), input: ones(1, 4, 2) });
    expect(gpujs.report()).toMatchObject([{ kernel: 'linearScan', backend: mode, executor }]);
    expect(gpujs.device).toBeNull();
    await gpujs.destroy();
  });

  it('keeps as many plans as it is told, and calls at the same time do not meet', async () => {
    const gpujs = await createGpujs({ planLimit: 2 });
    const sizes = [2, 3, 4, 3, 2, 2];
    const results = await Promise.all(sizes.map((size) => matmul(gpujs, { left: ones(size, size), right: ones(size, size) })));
    expect(results.map(({ output }) => (output.data as Float32Array).reduce((sum, value) => sum + value))).toEqual(
      sizes.map((size) => size ** 3),
    );
    expect(gpujs.report()).toHaveLength(2);
    await gpujs.destroy();
  });

  it('worker threads give the same numbers', async () => {
    const [alone, together] = [await createGpujs(), await createGpujs({ threads: true })];
    const input = { shape: [1, 70, 100], data: Float32Array.from({ length: 7000 }, (_, index) => Math.sin(index)) };
    const decay = { shape: [1, 70, 100], data: new Float32Array(7000).fill(0.9) };
    const results = [await linearScan(alone, { decay, input }), await linearScan(together, { decay, input })];
    expect(results[1]!.hidden.data).toEqual(results[0]!.hidden.data);
    expect(together.report()).toMatchObject([{ backend: 'webasm', executor: 'fused-threaded' }]);
    await Promise.all([alone.destroy(), together.destroy()]);
  });
});

describe('the entry gpujs', () => {
  it('runs in plain Node, and no module of tfjs is loaded', () => {
    const code = `
      import { registerHooks } from 'node:module';
      registerHooks({ resolve(specifier, context, next) {
        if (specifier.includes('tensorflow')) throw new Error('loads ' + specifier);
        return next(specifier, context);
      } });
      const { createGpujs, matmul } = await import('@seqloom/kernels-gpu/gpujs');
      const gpujs = await createGpujs();
      const left = { shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) };
      const { output } = await matmul(gpujs, { left, right: left });
      console.log(gpujs.mode, output.shape.join(), [...output.data].join());
      await gpujs.destroy();`;
    const run = spawnSync(process.execPath, ['--conditions=@seqloom/source', '--input-type=module', '--eval', code], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
    });
    expect(run.stderr).toBe('');
    expect(run.stdout.trim()).toBe('webasm 2,2 7,10,15,22');
  });
});

describe('bad input is one clear error before any work', () => {
  let gpujs: Gpujs;
  beforeAll(async () => {
    gpujs = await createGpujs({ mode: 'cpu' });
  });

  it.each<[string, (g: Gpujs) => Promise<unknown>]>([
    ['matmul: right must be with 3 numbers', (g) => matmul(g, { left: ones(2, 3), right: ones(2, 3) })],
    ['matmul: right must be with the batch axes of left', (g) => matmul(g, { left: ones(2, 2, 3), right: ones(3, 3, 3) })],
    ['rmsNorm: groups must be a divisor of 4', (g) => rmsNorm(g, { input: ones(2, 4) }, { groups: 3 })],
    ['rmsNorm: weight must be of shape [4]', (g) => rmsNorm(g, { input: ones(2, 4), weight: ones(3) })],
    ['rmsNorm: input must be 8 numbers', (g) => rmsNorm(g, { input: { shape: [2, 4], data: new Float32Array(7) } })],
    ['rmsNorm: input must be without empty axes', (g) => rmsNorm(g, { input: ones(0, 4) })],
    ['rmsNorm: placement.onDevice must be left out', (g) => rmsNorm(g, { input: ones(2, 4) }, { onDevice: true })],
    ['linearScan: input must be of shape [1, 4, 2]', (g) => linearScan(g, { decay: ones(1, 4, 2), input: ones(1, 4, 3) })],
    ['rotary: cos must be at most 2 wide', (g) => rotary(g, { input: ones(1, 2, 1, 4), cos: ones(1, 2, 3), sin: ones(1, 2, 3) })],
    ['softmaxCrossEntropy: labels must be below 3', (g) => softmaxCrossEntropy(g, { logits: ones(2, 3), labels: Int32Array.of(1, 3) })],
    ['gatherRows: indices must be below 2 and not negative', (g) => gatherRows(g, { table: ones(2, 3), indices: Int32Array.of(0, -1) })],
    [
      'linearAttention: logDecay must be given for the rule gated',
      (g) => linearAttention(g, { query: ones(1, 2, 1, 2), key: ones(1, 2, 1, 2), value: ones(1, 2, 1, 2) }, { updateRule: 'gated' }),
    ],
  ])('%s', async (message, run) => {
    await expect(run(gpujs)).rejects.toThrow(message);
  });
});
