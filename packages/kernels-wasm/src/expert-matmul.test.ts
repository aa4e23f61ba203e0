import { expertMatMul } from '@seqloom/core';
import { array64, checkKernelParity, naiveExpertMatMul, randomStream, relativeError64, uniform64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { describeBuilds } from './describe-builds.ts';

const run = (inputs: Record<string, tf.Tensor>): { output: tf.Tensor } => ({ output: expertMatMul(inputs as never) });

/** A random expert for each row, -1 included; the last expert gets none. */
function randomExperts(rows: number, count: number): number[] {
  const next = randomStream(rows + 17 * count);
  return Array.from({ length: rows }, () => Math.floor(Math.max(2, count) * next()) - 1);
}

describeBuilds('ExpertMatMul', 'ExpertMatMul', () => {
  it.each([
    [1, 1, 1, 1],
    [2, 3, 3, 5],
    [7, 4, 8, 16],
    [13, 2, 5, 9],
    [33, 5, 17, 6],
    [40, 3, 12, 31],
    [3, 8, 4, 4],
  ])('equals float64 for N %i, E %i, D %i, F %i', async (rows, count, inner, outer) => {
    for (const experts of [randomExperts(rows, count), Array.from({ length: rows }, () => count - 1)]) {
      await checkKernelParity('wasm', {
        inputs: { input: uniform64([rows, inner], 1), experts: array64([rows], experts), weight: uniform64([count, inner, outer], 2) },
        integers: ['experts'],
        run,
        oracle: (arrays) => naiveExpertMatMul(arrays as never),
        differentiate: experts.some((expert) => expert >= 0) ? ['input', 'weight'] : [],
      });
    }
  });

  it('equals float64 where an expert has more rows than are gathered at a time, and where a factor is packed in parts', async () => {
    const oracle = (arrays: object): { output: ReturnType<typeof array64> } => naiveExpertMatMul(arrays as never);
    for (const [rows, count, inner, outer] of [
      [1300, 2, 4, 3],
      [40, 2, 300, 530],
    ] as const) {
      const experts = randomExperts(rows, count + 1);
      const inputs = {
        input: uniform64([rows, inner], 1),
        experts: array64([rows], experts),
        weight: uniform64([count, inner, outer], 2),
      };
      await checkKernelParity('wasm', { inputs, integers: ['experts'], run, oracle });
      // central differences would take long here: the gradients of a linear map are products too
      const given = uniform64([rows, outer], 3);
      const turned = array64([count, outer, inner]);
      for (let e = 0; e < count; e++)
        for (let d = 0; d < inner; d++)
          for (let f = 0; f < outer; f++) turned.data[(e * outer + f) * inner + d] = inputs.weight.data[(e * inner + d) * outer + f]!;
      const toInput = oracle({ input: given, experts: inputs.experts, weight: turned }).output;
      const toWeight = array64([count, inner, outer]);
      experts.forEach((e, n) => {
        if (e < 0) return;
        for (let d = 0; d < inner; d++)
          for (let f = 0; f < outer; f++)
            toWeight.data[(e * inner + d) * outer + f]! += inputs.input.data[n * inner + d]! * given.data[n * outer + f]!;
      });
      const tensor = (array: { shape: readonly number[]; data: Float64Array }): tf.Tensor =>
        tf.tensor(Float32Array.from(array.data), [...array.shape]);
      const [x, w, dy] = [tensor(inputs.input), tensor(inputs.weight), tensor(given)];
      const ids = tf.tensor1d(experts, 'int32');
      const gradients = tf.grads((input, weight) => expertMatMul({ input: input!, experts: ids, weight: weight! }))([x, w], dy);
      for (const [place, wanted] of [toInput, toWeight].entries()) {
        const values = await gradients[place]!.data();
        const worst = wanted.data.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i]!)), 0);
        expect(worst).toBeLessThan(1e-4);
      }
      tf.dispose([x, w, dy, ids, ...gradients]);
    }
  });

  it('gives the same bits again, and a row the same whatever stands beside it', async () => {
    const rows = 24;
    const input = tf.randomNormal([rows, 20], 0, 1, 'float32', 1);
    const weight = tf.randomNormal([3, 20, 24], 0, 1, 'float32', 2);
    const ids = tf.tensor1d(
      Array.from({ length: rows }, (_, n) => n % 3),
      'int32',
    );
    const once = expertMatMul({ input, experts: ids, weight });
    const again = expertMatMul({ input, experts: ids, weight });
    expect(await again.data()).toEqual(await once.data());
    const alone = tf.tidy(() => expertMatMul({ input: tf.slice(input, [7, 0], [1, 20]), experts: tf.tensor1d([1], 'int32'), weight }));
    expect(relativeError64(await alone.data(), (await once.data()).slice(7 * 24, 8 * 24))).toBeLessThan(1e-6);
    tf.dispose([input, weight, ids, once, again, alone]);
  });

  it('takes no rows', async () => {
    const [input, ids, weight] = [tf.zeros([0, 3]), tf.zeros([0], 'int32') as tf.Tensor, tf.ones([2, 3, 4])];
    const [toInput, toWeight] = tf.grads((x, w) => expertMatMul({ input: x!, experts: ids, weight: w! }))([input, weight]);
    expect(toInput!.shape).toEqual([0, 3]);
    expect([...(await toWeight!.data())].every((value) => value === 0)).toBe(true);
    tf.dispose([input, ids, weight, toInput!, toWeight!]);
  });
});
