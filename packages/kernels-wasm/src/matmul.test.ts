import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
import { naiveMatMul } from '@seqloom/testing';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Build } from './load.ts';
import { useWasmKernels } from './use-wasm-kernels.ts';
import type { WasmKernels } from './use-wasm-kernels.ts';

/** Largest difference, relative to the largest magnitude that k products of numbers below 1 can reach by chance. */
function error(given: ArrayLike<number>, wanted: ArrayLike<number>, k: number): number {
  let worst = 0;
  for (let i = 0; i < wanted.length; i++) worst = Math.max(worst, Math.abs(given[i]! - wanted[i]!));
  return given.length === wanted.length ? worst / Math.sqrt(k) : Infinity;
}

const sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 33, 47, 48, 63, 64, 65, 69, 70];
const transposes = [false, true].flatMap((a) => [false, true].map((b) => [a, b] as const));

describe.each<Build>(['simd', 'relaxed'])('batched matrix product, %s build', (build) => {
  let kernels: WasmKernels;
  beforeAll(async () => {
    await tf.setBackend('wasm');
    await tf.ready();
    kernels = await useWasmKernels({ build });
    return () => kernels.undo();
  });
  let tensors = 0;
  beforeEach(() => void (tensors = tf.memory().numTensors));
  afterEach(() => expect(tf.memory().numTensors).toBe(tensors));

  it.each(transposes)('equals float64 at every size, transposeA %s, transposeB %s', (transposeA, transposeB) => {
    let worst = 0;
    for (const [index, m] of sizes.entries())
      for (const [other, n] of sizes.entries()) {
        const k = sizes[(index * 7 + other * 5) % sizes.length]!;
        const a = tf.randomUniform(transposeA ? [k, m] : [m, k], -1, 1, 'float32', index);
        const b = tf.randomUniform(transposeB ? [n, k] : [k, n], -1, 1, 'float32', other + 1000);
        const c = tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D, transposeA, transposeB);
        const wanted = naiveMatMul(a.dataSync<'float32'>(), b.dataSync<'float32'>(), m, n, k, transposeA, transposeB);
        worst = Math.max(worst, error(c.dataSync(), wanted, k));
        expect(c.shape).toEqual([m, n]);
        tf.dispose([a, b, c]);
      }
    expect(worst).toBeLessThan(1e-6);
  });

  it.each(transposes)('equals float64 beyond the packing blocks, transposeA %s, transposeB %s', (transposeA, transposeB) => {
    for (const [m, n, k] of [
      [1, 1037, 531],
      [13, 523, 517],
      [70, 9, 1029],
    ] as const) {
      const a = tf.randomUniform(transposeA ? [k, m] : [m, k], -1, 1, 'float32', 1);
      const b = tf.randomUniform(transposeB ? [n, k] : [k, n], -1, 1, 'float32', 2);
      const c = tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D, transposeA, transposeB);
      const wanted = naiveMatMul(a.dataSync<'float32'>(), b.dataSync<'float32'>(), m, n, k, transposeA, transposeB);
      expect(error(c.dataSync(), wanted, k)).toBeLessThan(1e-6);
      tf.dispose([a, b, c]);
    }
  });

  it.each(transposes)('broadcasts batch axes, transposeA %s, transposeB %s', (transposeA, transposeB) => {
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
    const [m, n, k] = [5, 7, 9];
    for (const { a: aBatch, b: bBatch, out } of cases) {
      tf.tidy(() => {
        const aSize = transposeA ? [k, m] : [m, k];
        const bSize = transposeB ? [n, k] : [k, n];
        const a = tf.randomUniform([...aBatch, ...aSize], -1, 1, 'float32', 5);
        const b = tf.randomUniform([...bBatch, ...bSize], -1, 1, 'float32', 6);
        const c = tf.matMul(a, b, transposeA, transposeB);
        expect(c.shape).toEqual([...out, m, n]);
        const wideA = tf.broadcastTo(a, [...out, ...aSize]).dataSync<'float32'>();
        const wideB = tf.broadcastTo(b, [...out, ...bSize]).dataSync<'float32'>();
        const given = c.dataSync();
        for (let i = 0; i < out.reduce((x, y) => x * y); i++) {
          const pair = [wideA.slice(i * m * k, (i + 1) * m * k), wideB.slice(i * k * n, (i + 1) * k * n)] as const;
          const wanted = naiveMatMul(...pair, m, n, k, transposeA, transposeB);
          expect(error(given.slice(i * m * n, (i + 1) * m * n), wanted, k)).toBeLessThan(1e-6);
        }
      });
    }
  });

  it('adds bias and relu in the fused form', () => {
    tf.tidy(() => {
      const a = tf.randomUniform<tf.Rank.R2>([7, 5], -1, 1, 'float32', 1);
      const b = tf.randomUniform<tf.Rank.R2>([5, 11], -1, 1, 'float32', 2);
      const bias = tf.randomUniform<tf.Rank.R1>([11], -1, 1, 'float32', 3);
      for (const activation of ['linear', 'relu', 'sigmoid'] as const) {
        const plain = tf.add(tf.matMul(a, b), bias);
        const wanted = activation === 'linear' ? plain : activation === 'relu' ? tf.relu(plain) : tf.sigmoid(plain);
        const given = tf.fused.matMul({ a, b, bias, activation });
        expect(error(given.dataSync(), wanted.dataSync(), 5)).toBeLessThan(1e-6);
      }
    });
  });

  it('stays right while the heap grows', () => {
    const a = tf.randomUniform<tf.Rank.R2>([33, 40], -1, 1, 'float32', 1);
    const b = tf.randomUniform<tf.Rank.R2>([40, 29], -1, 1, 'float32', 2);
    const wanted = naiveMatMul(a.dataSync<'float32'>(), b.dataSync<'float32'>(), 33, 29, 40, false, false);
    const grown: tf.Tensor[] = [];
    for (let round = 0; round < 4; round++) {
      grown.push(tf.zeros([6_000_000]));
      const c = tf.matMul(a, b);
      expect(error(c.dataSync(), wanted, 40)).toBeLessThan(1e-6);
      c.dispose();
    }
    tf.dispose([a, b, ...grown]);
  });

  it('refuses inner axes that differ', () => {
    tf.tidy(() => {
      expect(() => tf.matMul(tf.ones([2, 3]), tf.ones([4, 2]))).toThrow(/inner/);
    });
  });
});

describe('useWasmKernels', () => {
  it("puts tfjs's kernels back", async () => {
    await tf.setBackend('wasm');
    const before = tf.getKernel('BatchMatMul', 'wasm');
    const kernels = await useWasmKernels();
    expect(kernels.label).toMatch(/^kernels-wasm \((relaxed|simd)\)$/);
    expect(tf.getKernel('BatchMatMul', 'wasm')).not.toBe(before);
    kernels.undo();
    expect(tf.getKernel('BatchMatMul', 'wasm')).toBe(before);
  });
});
