import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { explain, setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { tuneGpuKernels } from './tune-gpu-kernels.ts';
import { gpuTuning, useGpuKernels } from './use-gpu-kernels.ts';
import type { GpuBackend } from './wgsl/device.ts';
import { candidates, tileName } from './wgsl/tuning.ts';

const cache = mkdtempSync(join(tmpdir(), 'seqloom-tuning-'));
const folder = join(cache, 'seqloom');
const before = process.env.XDG_CACHE_HOME;
const setUp = () => setupBackend('webgpu', { kernels: [useGpuKernels], strict: true });

/** Writes a store with one entry for the adapter in use, made from what the last measuring stored. */
function rewrite(file: string, change: (entry: { shaders: string; tuning: Record<string, unknown> }) => unknown): void {
  const store = JSON.parse(readFileSync(file, 'utf8')) as Record<string, never>;
  const [adapter] = Object.keys(store);
  writeFileSync(file, JSON.stringify({ [adapter!]: change(store[adapter!]!) }));
}

describe('tuneGpuKernels', () => {
  beforeAll(() => {
    process.env.XDG_CACHE_HOME = cache;
  });
  afterAll(() => {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
    rmSync(cache, { recursive: true });
  });
  beforeEach(() => rmSync(folder, { recursive: true, force: true }));

  it('measures every candidate, keeps the result, and the next set-up finds it', async () => {
    await setUp();
    const table = gpuTuning()!;
    expect(table.origin).toBe('table');
    const tensors = tf.memory().numTensors;
    // with so little a margin any difference counts, so that the result may differ from the table's
    const report = await tuneGpuKernels({ seconds: 0.2, settings: ['matMul', 'subgroups'], margin: 0 });
    expect(tf.memory().numTensors).toBe(tensors);
    const has = (tf.backend() as GpuBackend).device.features.has('subgroups');
    expect(report.timed.map(({ setting, candidate }) => `${setting} ${candidate}`)).toEqual([
      ...candidates.matMul.map((tile) => `matMul ${tileName(tile)}`),
      ...(has ? ['subgroups false', 'subgroups true'] : []),
    ]);
    expect(report.clock).toBe((tf.backend() as GpuBackend).supportTimestampQuery ? 'timestamps' : 'wall clock');
    for (const { milliseconds, refused } of report.timed) {
      expect(refused).toBeUndefined();
      expect(milliseconds).toBeGreaterThan(0);
    }
    const [chosen] = report.timed.filter(({ setting, chosen: taken }) => setting === 'matMul' && taken);
    expect(tileName(report.tuning.matMul)).toBe(chosen!.candidate);
    // fastest, since there was no margin
    expect(chosen!.milliseconds).toBe(
      Math.min(...report.timed.filter(({ setting }) => setting === 'matMul').map((one) => one.milliseconds)),
    );
    expect(report.stored).toBe(join(folder, 'seqloom-kernels-gpu-tuning.json'));
    expect(readdirSync(folder)).toEqual(['seqloom-kernels-gpu-tuning.json']);
    expect(gpuTuning()).toEqual(table);
    await setUp();
    expect(gpuTuning()).toEqual({ ...table, origin: 'measured', tuning: { ...table.tuning, ...report.tuning } });
    expect(explain().kernelPackages).toEqual(['kernels-gpu (wgsl, measured tuning)']);
    // a setting of the user comes before, the table only when asked for
    await setupBackend('webgpu', { kernels: [() => useGpuKernels({ tuning: { halfTiles: true } })] });
    expect(gpuTuning()).toMatchObject({ origin: 'given', tuning: { ...report.tuning, halfTiles: true } });
    await setupBackend('webgpu', { kernels: [() => useGpuKernels({ tuning: 'table' })] });
    expect(gpuTuning()).toEqual(table);
  });

  it('keeps what stands in the table unless a candidate is faster by the margin', async () => {
    await setUp();
    const { tuning, timed } = await tuneGpuKernels({ seconds: 0.1, settings: ['smallMatMul'], margin: 0.99, store: false });
    expect(tuning.smallMatMul).toEqual(gpuTuning()!.tuning.smallMatMul);
    expect(timed.filter(({ chosen }) => chosen).map(({ candidate }) => candidate)).toEqual([tileName(tuning.smallMatMul)]);
    expect(existsSync(folder)).toBe(false);
  });

  it('leaves out candidates that the device refuses, or that give other numbers, and takes the wall clock without timestamps', async () => {
    await setUp();
    // a new device, which has compiled nothing so far
    const old = (tf.backend() as GpuBackend).device;
    old.destroy();
    await old.lost;
    await setUp();
    const backend = tf.backend() as GpuBackend;
    Object.assign(backend, { supportTimestampQuery: false });
    const { device } = backend;
    const create = device.createShaderModule.bind(device);
    device.createShaderModule = ({ code, label = '' }) => {
      if (label.endsWith('32x32x16/4x4-f32')) return create({ code: 'nonsense', label });
      if (label.endsWith('128x128x8/8x8-f32')) return create({ code: code.replaceAll('* right0;', '* right0 * 1.01;'), label });
      return create({ code, label });
    };
    const { clock, timed } = await tuneGpuKernels({ seconds: 0, settings: ['smallMatMul'], margin: -10, store: false });
    expect(clock).toBe('wall clock');
    const refused = Object.fromEntries(timed.map((one) => [one.candidate, one.refused]));
    expect(refused).toEqual({
      '32x32x16/4x4': expect.stringMatching(/shader must be one that this device accepts.*nonsense/s),
      '128x128x8/8x8': expect.stringMatching(/gives other numbers, relative error 0\.007/),
      '64x64x16/4x4': undefined,
      '64x64x8/8x8': undefined,
      '128x64x16/8x4': undefined,
    });
    for (const { milliseconds, refused: why, chosen } of timed) {
      expect([Number.isNaN(milliseconds), chosen && why !== undefined]).toEqual([why !== undefined, false]);
    }
    device.destroy();
    await device.lost;
  });

  it('leaves results of other shaders, other adapters and broken ones alone', async () => {
    await setUp();
    const table = gpuTuning()!;
    const { stored } = await tuneGpuKernels({ seconds: 0, settings: [] });
    const good = readFileSync(stored!, 'utf8');
    const origin = async () => {
      await setUp();
      return gpuTuning()!.origin;
    };
    expect(await origin()).toBe('measured');
    for (const change of [
      (entry: object) => ({ ...entry, shaders: 'others' }),
      (entry: { tuning: object }) => ({ ...entry, tuning: { ...entry.tuning, attention: { own: 64, other: 64 } } }),
      (entry: { tuning: object }) => ({ ...entry, tuning: { ...entry.tuning, matMul: undefined } }),
      (entry: object) => ({ ...entry, tuning: null }),
      () => null,
    ]) {
      writeFileSync(stored!, good);
      rewrite(stored!, change);
      expect(await origin()).toBe('table');
      expect(gpuTuning()).toEqual(table);
    }
    for (const text of ['', '{', '[]', 'null', '7', good.replaceAll(/"(\w+ )/g, '"other $1')]) {
      writeFileSync(stored!, text);
      expect(await origin(), text).toBe('table');
    }
    // and the next result takes their place
    await tuneGpuKernels({ seconds: 0, settings: [] });
    expect(await origin()).toBe('measured');
  });

  it('says why a result is not kept, and that it needs the kernels', async () => {
    await setUp();
    writeFileSync(folder, 'a file in the place of the folder');
    const { stored, storeFault } = await tuneGpuKernels({ seconds: 0, settings: [] });
    expect([stored, storeFault]).toEqual([undefined, expect.stringMatching(/EEXIST|ENOTDIR/)]);
    await setupBackend('webgpu', { kernels: [] });
    await expect(tuneGpuKernels()).rejects.toThrow(
      /tuneGpuKernels: backend must be webgpu, with the kernels of this package; got webgpu without/,
    );
    await setupBackend('cpu');
    expect(gpuTuning()).toBeUndefined();
    await expect(tuneGpuKernels()).rejects.toThrow(/got cpu/);
  });
});
