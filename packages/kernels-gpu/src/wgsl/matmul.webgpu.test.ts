import { setupBackend } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { naiveMatMul, relativeError64 } from '@seqloom/testing';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { useGpuKernels } from '../use-gpu-kernels.ts';

/** Matrix `index` of the batch `outer`, of an operand whose own batch is `shape` and broadcast to it. */
function matrixAt(data: Float32Array, size: number, index: number, outer: readonly number[], shape: readonly number[]): Float32Array {
  let place = 0;
  let step = 1;
  for (let axis = outer.length - 1, own = shape.length - 1; own >= 0; axis--, own--) {
    if (shape[own]! > 1) place += (index % outer[axis]!) * step;
    index = Math.floor(index / outer[axis]!);
    step *= shape[own]!;
  }
  return data.slice(place * size, (place + 1) * size);
}

const transposes = [false, true].flatMap((a) => [false, true].map((b) => [a, b] as const));

describe('matrix product in WGSL', () => {
  beforeAll(async () => {
    await setupBackend('webgpu', { kernels: [useGpuKernels] });
  });
  let tensors = 0;
  beforeEach(() => void (tensors = tf.memory().numTensors));
  afterEach(() => expect(tf.memory().numTensors).toBe(tensors));

  async function check(m: number, n: number, k: number, transposeA: boolean, transposeB: boolean): Promise<void> {
    const a = tf.randomUniform(transposeA ? [k, m] : [m, k], -1, 1, 'float32', m + 1);
    const b = tf.randomUniform(transposeB ? [n, k] : [k, n], -1, 1, 'float32', n + 1000);
    const c = tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D, transposeA, transposeB);
    const wanted = naiveMatMul(await a.data<'float32'>(), await b.data<'float32'>(), m, n, k, transposeA, transposeB);
    expect(c.shape).toEqual([m, n]);
    expect(relativeError64(await c.data(), wanted), `${m} x ${n} x ${k}`).toBeLessThan(3e-6);
    tf.dispose([a, b, c]);
  }

  it.each(transposes)('equals float64 at odd sizes, transposeA %s, transposeB %s', async (transposeA, transposeB) => {
    for (const m of [1, 5, 9, 64, 67, 130])
      for (const n of [1, 4, 17, 64, 71, 129]) await check(m, n, [1, 3, 16, 33, 70][(m + n) % 5]!, transposeA, transposeB);
  });

  it.each(transposes)('equals float64 for a long inner axis, transposeA %s, transposeB %s', async (transposeA, transposeB) => {
    for (const [m, n] of [
      [1, 70],
      [12, 20],
      [65, 33],
    ] as const)
      await check(m, n, 4096, transposeA, transposeB);
  });

  it.each(transposes)('broadcasts batch axes, transposeA %s, transposeB %s', async (transposeA, transposeB) => {
    const cases = [
      { a: [3], b: [3], out: [3] },
      { a: [3], b: [1], out: [3] },
      { a: [1], b: [3], out: [3] },
      { a: [2, 3], b: [3], out: [2, 3] },
      { a: [2, 1, 3], b: [1, 4, 3], out: [2, 4, 3] },
      { a: [2, 1], b: [2, 5], out: [2, 5] },
      { a: [4, 1], b: [1, 2], out: [4, 2] },
      { a: [1], b: [], out: [1] },
    ];
    for (const [m, n, k] of [
      [5, 7, 9],
      [12, 8, 20],
    ] as const)
      for (const { a: aBatch, b: bBatch, out } of cases) {
        const aSize = transposeA ? [k, m] : [m, k];
        const bSize = transposeB ? [n, k] : [k, n];
        const a = tf.randomUniform([...aBatch, ...aSize], -1, 1, 'float32', 5);
        const b = tf.randomUniform([...bBatch, ...bSize], -1, 1, 'float32', 6);
        const c = tf.matMul(a, b, transposeA, transposeB);
        expect(c.shape).toEqual([...out, m, n]);
        const [aData, bData, given] = [await a.data<'float32'>(), await b.data<'float32'>(), await c.data()];
        for (let i = 0; i < out.reduce((x, y) => x * y); i++) {
          const pair = [matrixAt(aData, m * k, i, out, aBatch), matrixAt(bData, k * n, i, out, bBatch)] as const;
          const wanted = naiveMatMul(...pair, m, n, k, transposeA, transposeB);
          expect(relativeError64(given.slice(i * m * n, (i + 1) * m * n), wanted)).toBeLessThan(3e-6);
        }
        tf.dispose([a, b, c]);
      }
  });

  it('adds bias and relu in the fused form, for few rows and for many', async () => {
    for (const m of [2, 70]) {
      const a = tf.randomUniform<tf.Rank.R2>([m, 5], -1, 1, 'float32', 1);
      const b = tf.randomUniform<tf.Rank.R2>([5, 11], -1, 1, 'float32', 2);
      const bias = tf.randomUniform<tf.Rank.R1>([11], -1, 1, 'float32', 3);
      for (const activation of ['linear', 'relu', 'sigmoid'] as const) {
        const wanted = tf.tidy(() => {
          const plain = tf.add(tf.matMul(a, b), bias);
          return activation === 'linear' ? plain : activation === 'relu' ? tf.relu(plain) : tf.sigmoid(plain);
        });
        const given = tf.fused.matMul({ a, b, bias, activation });
        expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
        tf.dispose([given, wanted]);
      }
      tf.dispose([a, b, bias]);
    }
  });

  it('gives an empty tensor, or zeros for an empty inner axis', async () => {
    const [none, zeros] = tf.tidy(() => [
      tf.matMul(tf.zeros<tf.Rank.R2>([0, 3]), tf.ones<tf.Rank.R2>([3, 4])),
      tf.matMul(tf.zeros<tf.Rank.R2>([9, 0]), tf.zeros<tf.Rank.R2>([0, 4])),
    ]);
    expect([none!.shape, [...(await none!.data())]]).toEqual([[0, 4], []]);
    expect([...(await zeros!.data())]).toEqual(Array.from({ length: 36 }, () => 0));
    tf.dispose([none!, zeros!]);
  });

  it('keeps NaN and infinities to the rows and columns they are in', async () => {
    const values = new Float32Array(70 * 20).fill(1);
    values[0] = NaN;
    values[20] = Infinity;
    const c = tf.tidy(() => tf.matMul(tf.tensor2d(values, [70, 20]), tf.ones<tf.Rank.R2>([20, 5])));
    const given = await c.data();
    expect([...given.slice(0, 15)]).toEqual([...Array(5).fill(NaN), ...Array(5).fill(Infinity), ...Array(5).fill(20)]);
    c.dispose();
  });

  it('refuses inner axes that differ', () => {
    tf.tidy(() => {
      expect(() => tf.matMul(tf.ones([2, 3]), tf.ones([4, 2]))).toThrow(/inner/i);
    });
  });
});

describe('useGpuKernels', () => {
  it("puts tfjs's kernels back", async () => {
    await setupBackend('webgpu', { kernels: [] });
    const before = tf.getKernel('BatchMatMul', 'webgpu');
    const kernels = useGpuKernels();
    expect(kernels.label).toBe('kernels-gpu (wgsl)');
    expect(tf.getKernel('BatchMatMul', 'webgpu')).not.toBe(before);
    kernels.undo();
    expect(tf.getKernel('BatchMatMul', 'webgpu')).toBe(before);
  });
});
