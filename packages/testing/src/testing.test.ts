import * as tf from '@tensorflow/tfjs-core';
import { setupBackend } from '@seqloom/core';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { leftOut } from './backends.ts';
import { compareNumbers, installCloseness } from './closeness.ts';
import { failAtKernel, faultSweep, InjectedFault, recordKernels } from './fault.ts';
import { directionalDerivative64, gradientsOf } from './finite-difference.ts';
import { countCost, growthExponent } from './laws/cost.ts';
import { countLaws, lawTable } from './laws/counts.ts';
import { expectNoLeak } from './leak.ts';
import { array64, uniform64 } from './oracle/array64.ts';
import { dirtyMemory, poisonMasked } from './poison.ts';

installCloseness();
beforeAll(async () => {
  await setupBackend('wasm');
});

describe('closeness', () => {
  it('takes tensors, oracle arrays and lists, and names the worst place', async () => {
    const tensor = tf.tensor2d([1, 2, 3, 4], [2, 2]);
    await expect(tensor).toBeCloseTensor([1, 2, 3, 4]);
    await expect(tensor).toBeCloseTensor(array64([2, 2], [1, 2, 3, 4 + 1e-6]));
    await expect(tensor).not.toBeCloseTensor([1, 2, 3, 4.1]);
    await expect(expect(tensor).toBeCloseTensor(array64([2, 2], [1, 2, 3.5, 4]))).rejects.toThrow(/worst at \[1, 0\]: 3, expected 3\.5/);
    await expect(expect(tensor).toBeCloseTensor(array64([4], [1, 2, 3, 4]))).rejects.toThrow('shape [2, 2], expected [4]');
    tensor.dispose();
  });

  it('treats infinities and NaN strictly', () => {
    const host = (data: number[]): { shape: null; data: number[] } => ({ shape: null, data });
    expect(compareNumbers(host([-Infinity, 1]), host([-Infinity, 1]))).toMatchObject({ rms: 0, max: 0 });
    expect(compareNumbers(host([Number.NaN, 1]), host([0, 1]))).toMatchObject({ rms: Infinity, worst: 0 });
    expect(compareNumbers(host([0, Infinity]), host([0, 1]))).toMatchObject({ rms: Infinity, worst: 1 });
    expect(compareNumbers(host([1e-12]), host([0])).rms).toBeLessThan(1e-5);
    expect(compareNumbers(host([3, 4]), host([3, 5]))).toMatchObject({ max: 0.2, worst: 1 });
  });
});

describe('leaks and faults', () => {
  it('expectNoLeak sees leaks of sync, async and throwing work', async () => {
    await expect(expectNoLeak(() => 3)).resolves.toBe(3);
    await expect(expectNoLeak(() => tf.zeros([2]))).rejects.toThrow(/number of tensors from \d+ to \d+/);
    await expect(
      expectNoLeak(async () => {
        const kept = tf.zeros([2]);
        await kept.data();
        throw new Error('halfway');
      }),
    ).rejects.toThrow(/changed the number of tensors/);
    await expect(
      expectNoLeak(() => {
        throw new Error('cleanly');
      }),
    ).rejects.toThrow('cleanly');
  });

  it('a kernel call can be made to throw, and everything is put back', () => {
    const x = tf.tensor1d([1, 2]);
    const work = (): tf.Tensor => tf.tidy(() => tf.sqrt(tf.add(tf.square(x), 1)));
    expect(recordKernels(() => work().dispose())).toEqual(['Square', 'Add', 'Sqrt']);
    expect(() => failAtKernel(2, work)).toThrow(InjectedFault);
    expect(Object.hasOwn(tf.engine(), 'runKernel')).toBe(false);
    expect(faultSweep(work)).toEqual([]);
    const leaky = (): tf.Tensor => tf.sqrt(tf.square(x));
    expect(faultSweep(leaky).join()).toMatch(/kernel call 2 of 2 \(Sqrt\) changed the number of tensors/);
    x.dispose();
  });

  it('a gradient that throws leaves no saved tensors', () => {
    const x = tf.tensor1d([1, 2]);
    const work = (): tf.Tensor[] => gradientsOf(() => tf.sum(tf.exp(tf.square(x))), [x]) as tf.Tensor[];
    expect(faultSweep(work)).toEqual([]);
    x.dispose();
  });
});

describe('finite differences', () => {
  it('are good to eight digits in double precision', () => {
    const x = uniform64([4, 3], 1);
    const cotangents = { y: uniform64([4, 3], 2) };
    const direction = Float64Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? 1 : -1));
    const numeric = directionalDerivative64(
      ({ x: at }) => ({ y: { shape: at!.shape, data: at!.data.map(Math.exp) } }),
      { x },
      cotangents,
      'x',
      direction,
    );
    const exact = x.data.reduce((sum, v, i) => sum + Math.exp(v) * cotangents.y.data[i]! * direction[i]!, 0);
    expect(Math.abs(numeric - exact)).toBeLessThan(1e-8);
  });
});

describe('poison', () => {
  it('leaves NaN in the memory that wasm hands out next, and at masked tokens', () => {
    const { wasm } = tf.backend() as unknown as { wasm: { _malloc(n: number): number; _free(a: number): void; HEAPF32: Float32Array } };
    dirtyMemory();
    const address = wasm._malloc(1024);
    expect([...wasm.HEAPF32.subarray(address / 4 + 8, address / 4 + 200)].some(Number.isNaN)).toBe(true);
    wasm._free(address);
    expect([...poisonMasked(Float32Array.of(1, 2, 3, 4), [1, 2, 2], [1, 0])]).toEqual([1, 2, Number.NaN, Number.NaN]);
  });
});

describe('counts', () => {
  it('cost counts kernels and bytes, and gives the exponent of their growth', async () => {
    const points = await countCost([64, 128, 256], (length) => {
      const x = tf.ones([length, 8]);
      return { run: () => tf.tidy(() => tf.matMul(x, x, false, true)), dispose: () => x.dispose() };
    });
    expect(points.map(({ kernels }) => kernels)).toEqual([1, 1, 1]);
    expect(points.map(({ peakBytes }) => peakBytes)).toEqual([64, 128, 256].map((length) => 4 * length * length));
    expect(growthExponent(points, 'peakBytes')).toBeCloseTo(2, 6);
  });

  it('laws are counted by number and backend', () => {
    const one = (title: string, backend: string, status: string): { ancestorTitles: string[]; title: string; status: string } => ({
      title,
      status,
      ancestorTitles: ['laws of x', `on ${backend}`],
    });
    const assertionResults = [
      one('law 1 (split): a', 'cpu', 'passed'),
      one('law 1 (split): a', 'wasm', 'failed'),
      one('law 10 (hard numerics): b', 'wasm', 'skipped'),
      { ancestorTitles: ['laws of the op x'], title: 'law 2 (form parity): c', status: 'passed' },
      one('some other test', 'cpu', 'passed'),
    ];
    const counts = countLaws({ testResults: [{ assertionResults }] });
    expect(counts).toEqual([
      { law: 1, backend: 'cpu', passed: 1, failed: 0, skipped: 0 },
      { law: 1, backend: 'wasm', passed: 0, failed: 1, skipped: 0 },
      { law: 2, backend: 'any', passed: 1, failed: 0, skipped: 0 },
      { law: 10, backend: 'wasm', passed: 0, failed: 0, skipped: 1 },
    ]);
    expect(lawTable(counts).split('\n')[1]).toMatch(/^1 +split +- +1\/0\/0 +0\/1\/0$/);
  });
});

describe('backends', () => {
  it('are left out with a reason, WebGPU unless it is asked for', () => {
    for (const [asked, webgpu, wasm] of [
      ['', 'SEQLOOM_WEBGPU is not 1', null],
      ['1', null, null],
      ['only', null, 'this run is for webgpu alone'],
    ] as const) {
      vi.stubEnv('SEQLOOM_WEBGPU', asked);
      expect(leftOut('webgpu')).toBe(webgpu);
      expect(leftOut('wasm')).toBe(wasm);
    }
    vi.unstubAllEnvs();
  });
});
