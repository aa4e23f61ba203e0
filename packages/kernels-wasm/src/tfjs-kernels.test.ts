import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-wasm';
import { array64, expectCloseTo, uniform64 } from '@seqloom/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Build } from './load.ts';
import { useWasmKernels } from './use-wasm-kernels.ts';

const permutations = (rank: number): number[][] =>
  rank === 0 ? [[]] : permutations(rank - 1).flatMap((rest) => Array.from({ length: rank }, (_, at) => rest.toSpliced(at, 0, rank - 1)));

/** Input index of every output element of a transpose. */
function transposed(shape: number[], perm: number[]): number[] {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  return perm.reduce<number[]>(
    (places, axis) => places.flatMap((place) => Array.from({ length: shape[axis]! }, (_, i) => place + i * strides[axis]!)),
    [0],
  );
}

describe.each<Build>(['simd', 'relaxed'])("tfjs's own kernels, %s build", (build) => {
  beforeAll(async () => {
    await tf.setBackend('wasm');
    await tf.ready();
    const { undo } = await useWasmKernels({ build });
    return undo;
  });

  it.each(['float32', 'int32'] as const)('Transpose moves every element to its place, %s', (dtype) => {
    for (const shape of [[7], [5, 9], [64, 20], [2, 3, 5], [4, 1, 8], [3, 4, 5, 6], [2, 1, 4, 1, 3], [2, 3, 2, 3, 5]])
      for (const perm of permutations(shape.length))
        tf.tidy(() => {
          const size = shape.reduce((a, b) => a * b, 1);
          const y = tf.transpose(tf.reshape(tf.range(0, size, 1, dtype), shape), perm);
          expect(y.shape).toEqual(perm.map((axis) => shape[axis]));
          expect(Array.from(y.dataSync())).toEqual(transposed(shape, perm));
        });
  });

  it('Transpose of bool and of nothing still work', () => {
    tf.tidy(() => {
      expect(tf.transpose(tf.tensor2d([[true, false, true]], undefined, 'bool')).shape).toEqual([3, 1]);
      expect(tf.transpose(tf.zeros([0, 3])).shape).toEqual([3, 0]);
    });
  });

  it.each([1, 3, 4, 7, 1000])('Exp and Sigmoid of %i numbers', async (size) => {
    const x = uniform64([size], 4, -20, 20);
    for (const [run, exact] of [
      [tf.exp, Math.exp],
      [tf.sigmoid, (v: number) => 1 / (1 + Math.exp(-v))],
    ] as const) {
      const y = tf.tidy(() => run(tf.tensor1d(Float32Array.from(x.data))));
      const values = await y.data();
      // relative to each number: all digits have to be right, small results too
      values.forEach((value, i) => expect(Math.abs(value / exact(x.data[i]!) - 1)).toBeLessThan(5e-7));
      y.dispose();
    }
  });

  it('Exp and Sigmoid at the ends', () => {
    tf.tidy(() => {
      const ends = tf.tensor1d([-Infinity, -1e4, -88, 0, 88.5, 1e4, Infinity, NaN]);
      const exp = tf.exp(ends).dataSync();
      expect([...exp.slice(0, 2), exp[3], ...exp.slice(5, 7)]).toEqual([0, 0, 1, Infinity, Infinity]);
      expect(exp[2]).toBeLessThan(1e-37);
      expect(exp[4]! / Math.exp(88.5) - 1).toBeCloseTo(0, 6);
      expect(exp[7]).toBeNaN();
      const sigmoid = tf.sigmoid(ends).dataSync();
      expect([...sigmoid.slice(0, 2), sigmoid[3], ...sigmoid.slice(4, 7)]).toEqual([0, 0, 0.5, 1, 1, 1]);
      expect(sigmoid[7]).toBeNaN();
    });
  });

  it('UnsortedSegmentSum, which tfjs-wasm lacks, drops negative ids', async () => {
    const y = tf.tidy(() => tf.unsortedSegmentSum(tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8], [4, 2]), tf.tensor1d([2, 0, -1, 2], 'int32'), 3));
    await expectCloseTo(y, array64([3, 2], [3, 4, 0, 0, 8, 10]), 1e-7, 'sums');
    y.dispose();
  });
});
