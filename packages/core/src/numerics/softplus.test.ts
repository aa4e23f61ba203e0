import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { array64, checkKernelParity, naiveLogSigmoid, naiveSoftplus, uniform64 } from '@seqloom/testing';
import { logSigmoid } from './log-sigmoid.ts';
import { softplus } from './softplus.ts';

const POINTS = [-100, -87, -40, -20, -13, -5, -1e-3, 0, 1e-30, 1e-3, 5, 13, 20, 40, 87, 100].map(Math.fround);

describe.each(['cpu', 'wasm'])('on %s', (backend) => {
  it.each([
    ['softplus', softplus, naiveSoftplus],
    ['log-sigmoid', logSigmoid, naiveLogSigmoid],
  ] as const)('%s equals its oracle, gradient included', async (_name, op, oracle) => {
    for (const input of [uniform64([3, 5], 1, -6, 6), array64([POINTS.length], POINTS), array64([], [-0.5])]) {
      await checkKernelParity(backend, {
        inputs: { input },
        run: (inputs) => ({ output: op(inputs['input']!) }),
        oracle: (inputs) => ({ output: oracle(inputs['input']!) }),
        differentiate: ['input'],
        outputTolerance: 1e-6,
        gradientTolerance: 2e-6,
      });
    }
  });

  it.each([
    ['softplus', softplus, naiveSoftplus],
    ['log-sigmoid', logSigmoid, naiveLogSigmoid],
  ] as const)('%s keeps its relative precision point by point, from -100 to 100', async (_name, op, oracle) => {
    await tf.setBackend(backend);
    const given = tf.tidy(() => op(tf.tensor1d(POINTS)).dataSync());
    const wanted = oracle(array64([POINTS.length], POINTS)).data;
    wanted.forEach((value, place) => {
      // below 1e-38 float32 has fewer digits
      expect(Math.abs(given[place]! - value)).toBeLessThanOrEqual(3e-6 * Math.abs(value) + 1e-43);
    });
  });
});

it('softplus and log-sigmoid refuse integers', () => {
  expect(() => softplus(tf.scalar(1, 'int32'))).toThrow(/^softplus: input must be a float32 tensor/);
  expect(() => logSigmoid([1] as never)).toThrow(/^log-sigmoid: input must be a float32 tensor/);
});
