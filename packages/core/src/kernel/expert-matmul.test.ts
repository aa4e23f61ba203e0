import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { array64, checkKernelParity, naiveExpertMatMul, randomStream, uniform64 } from '@seqloom/testing';
import { expertMatMul } from './expert-matmul.ts';
import type { ExpertMatMulInputs } from './expert-matmul.ts';

describe.each(['cpu', 'wasm'])('expert-matmul on %s', (backend) => {
  it.each([
    ['few rows', 3, 5, 4, 2],
    ['more rows than experts', 13, 4, 3, 5],
    ['one expert', 6, 1, 5, 3],
    ['one row', 1, 3, 2, 4],
    ['one channel', 5, 2, 1, 1],
  ])('equals its oracle for %s, rows without an expert included', async (_name, rows, count, inner, outer) => {
    const next = randomStream(rows);
    const experts = array64(
      [rows],
      // -1 to count - 1
      Array.from({ length: rows }, () => Math.floor((count + 1) * next()) - 1),
    );
    await checkKernelParity(backend, {
      inputs: { input: uniform64([rows, inner], 1), experts, weight: uniform64([count, inner, outer], 2) },
      integers: ['experts'],
      run: (inputs) => ({ output: expertMatMul(inputs as ExpertMatMulInputs) }),
      oracle: (inputs) => naiveExpertMatMul(inputs as never),
      differentiate: ['input', 'weight'],
      outputTolerance: 1e-6,
      gradientTolerance: 1e-6,
    });
  });

  it('gives zeros and no gradient where no row has an expert, and takes no rows at all', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const weight = tf.ones([2, 3, 4]);
    for (const rows of [0, 1, 6]) {
      const input = tf.ones([rows, 3]);
      const experts = tf.fill([rows], -1, 'int32');
      const [output, toInput, toWeight] = tf.tidy(() => {
        const [first, second] = tf.grads((x, w) => expertMatMul({ input: x!, experts, weight: w! }))([input, weight]);
        return [expertMatMul({ input, experts, weight }), first!, second!] as const;
      });
      expect(output.shape).toEqual([rows, 4]);
      for (const zeros of [output, toInput, toWeight]) expect([...(await zeros.data())].every((value) => value === 0)).toBe(true);
      tf.dispose([input, experts, output, toInput, toWeight]);
    }
    weight.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each([3, 8])('keeps an infinite row to itself, %i rows', async (rows) => {
    await tf.setBackend(backend);
    const values = Array.from({ length: rows * 2 }, (_, place) => (place < 2 ? Infinity : place < 4 ? Number.NaN : 1));
    const experts = [0, -1, ...Array.from({ length: rows - 2 }, (_, place) => place % 4)];
    const output = tf.tidy(() =>
      expertMatMul({ input: tf.tensor2d(values, [rows, 2]), experts: tf.tensor1d(experts, 'int32'), weight: tf.ones([4, 2, 1]) }),
    );
    expect(Array.from(await output.data())).toEqual([Infinity, 0, ...Array.from({ length: rows - 2 }, () => 2)]);
    output.dispose();
  });

  it('refuses an expert out of range', async () => {
    await tf.setBackend(backend);
    const call = (expert: number) => () =>
      tf.tidy(() => expertMatMul({ input: tf.ones([1, 3]), experts: tf.tensor1d([expert], 'int32'), weight: tf.ones([2, 3, 4]) }));
    expect(call(2)).toThrow('expert-matmul: experts must be from -1 to 1 everywhere; got 2 at place 0.');
    expect(call(-2)).toThrow(/expert-matmul: experts/);
  });
});

describe('the door of expert-matmul', () => {
  const none = () => tf.zeros([2], 'int32') as tf.Tensor;
  it.each([
    ['experts in float', () => expertMatMul({ input: tf.ones([2, 3]), experts: tf.zeros([2]), weight: tf.ones([2, 3, 4]) })],
    ['too few experts', () => expertMatMul({ input: tf.ones([3, 3]), experts: none(), weight: tf.ones([2, 3, 4]) })],
    ['matrices of another height', () => expertMatMul({ input: tf.ones([2, 3]), experts: none(), weight: tf.ones([2, 4, 3]) })],
    ['one matrix', () => expertMatMul({ input: tf.ones([2, 3]), experts: none(), weight: tf.ones([3, 4]) })],
  ])('refuses %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^expert-matmul: .* must be .*; got .*\. /);
  });
});
