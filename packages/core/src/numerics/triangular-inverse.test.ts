import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { beforeEach, describe, expect, it } from 'vitest';
import { array64, expectCloseTo, relativeError64, tensorOf, uniform64 } from '@seqloom/testing';
import { segmentSum, segmentSumGradient } from './segment-sum.ts';
import { unitLowerTriangularInverse } from './triangular-inverse.ts';

describe.each(['cpu', 'wasm'])('on %s', (backend) => {
  beforeEach(async () => {
    await tf.setBackend(backend);
  });

  it.each([1, 2, 5, 16, 64])(
    '(I + A)^-1 (I + A) is the identity for C = %i, with entries as large as those of repeated keys',
    async (size) => {
      const strictly = uniform64([3, size, size], size, -1, 2);
      const before = tf.memory().numTensors;
      const tensor = tensorOf(strictly) as tf.Tensor3D;
      const inverse = unitLowerTriangularInverse(tensor);
      const found = await inverse.data();
      for (let matrix = 0; matrix < 3; matrix++) {
        const at = (row: number, column: number): number => (matrix * size + row) * size + column;
        // forward substitution in double precision: column by column of the identity
        const exact = new Float64Array(size * size);
        for (let column = 0; column < size; column++) {
          for (let row = column; row < size; row++) {
            let rest = row === column ? 1 : 0;
            for (let inner = column; inner < row; inner++) rest -= strictly.data[at(row, inner)]! * exact[inner * size + column]!;
            exact[row * size + column] = rest;
          }
        }
        expect(relativeError64(found.slice(at(0, 0), at(0, 0) + size * size), exact)).toBeLessThan(2e-5);
      }
      tf.dispose([tensor, inverse]);
      expect(tf.memory().numTensors).toBe(before);
    },
  );

  it('segment sums add their own terms: a huge one outside the segment costs no digit', async () => {
    const values = array64([1, 5], [-1e6, -0.125, -3e-7, -2, -0.5].map(Math.fround));
    const wanted = array64([1, 5, 5]);
    for (let i = 0; i < 5; i++) for (let j = 0; j < i; j++) for (let l = j + 1; l <= i; l++) wanted.data[i * 5 + j]! += values.data[l]!;
    const tensor = tensorOf(values) as tf.Tensor2D;
    const sums = segmentSum(tensor);
    const found = await sums.data();
    wanted.data.forEach((value, index) => expect(Math.abs(found[index]! - value)).toBeLessThanOrEqual(1e-6 * Math.abs(value)));
    tf.dispose([tensor, sums]);
  });

  it('the gradient of the segment sums is their adjoint', async () => {
    const size = 6;
    const upstream = uniform64([2, size, size], 3);
    const wanted = array64([2, size]);
    for (let row = 0; row < 2; row++) {
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < i; j++) {
          for (let l = j + 1; l <= i; l++) wanted.data[row * size + l]! += upstream.data[(row * size + i) * size + j]!;
        }
      }
    }
    const tensor = tensorOf(upstream) as tf.Tensor3D;
    const gradient = segmentSumGradient(tensor);
    await expectCloseTo(gradient, wanted, 1e-6, 'gradient');
    tf.dispose([tensor, gradient]);
  });
});
