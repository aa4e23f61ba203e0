import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { checkKernelParity, naiveAdamWStep, uniform64 } from '@seqloom/testing';
import { adamWStep } from './adamw-step.ts';
import type { AdamWStepInputs, AdamWStepOptions } from './adamw-step.ts';

const settings: AdamWStepOptions[] = [
  { learningRate: 0.1, step: 1 },
  { learningRate: 3e-2, step: 7, beta1: 0.8, beta2: 0.95, epsilon: 1e-3, weightDecay: 0.1, gradientScale: 0.25 },
  { learningRate: 0, step: 100_000, weightDecay: 1 },
];

describe.each(['cpu', 'wasm'])('adamw step on %s', (backend) => {
  it.each(settings)('equals its oracle with %j', async (options) => {
    for (const shape of [[3, 5], [1], [], [2, 3, 4]]) {
      await checkKernelParity(backend, {
        inputs: {
          parameter: uniform64(shape, 1),
          gradient: uniform64(shape, 2, -1e-2, 1e-2),
          firstMoment: uniform64(shape, 3, -1e-2, 1e-2),
          secondMoment: uniform64(shape, 4, 0, 1e-4),
        },
        run: (inputs) => adamWStep(inputs as AdamWStepInputs, options),
        oracle: (inputs) => naiveAdamWStep(inputs as never, options),
        outputTolerance: 1e-6,
      });
    }
  });

  it('moves by the learning rate at the first step, whatever the size of the gradient, and not at all without one', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const zeros = tf.zeros([4]);
      const gradient = tf.tensor1d([1e-3, -1e3, 1e4, 0]);
      const { parameter } = adamWStep(
        { parameter: zeros, gradient, firstMoment: zeros, secondMoment: zeros },
        { learningRate: 0.5, step: 1 },
      );
      const moved = parameter.dataSync();
      [-0.5, 0.5, -0.5, 0].forEach((wanted, place) => expect(moved[place]).toBeCloseTo(wanted, 4));
    });
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe('the door of adamw step', () => {
  const four = (parameter: tf.Tensor, gradient: tf.Tensor) => ({
    parameter,
    gradient,
    firstMoment: tf.zerosLike(parameter),
    secondMoment: tf.zerosLike(parameter),
  });
  it.each([
    ['another shape', () => adamWStep(four(tf.ones([2]), tf.ones([3])), { learningRate: 1, step: 1 })],
    ['integers', () => adamWStep(four(tf.tensor1d([1], 'int32'), tf.ones([1])), { learningRate: 1, step: 1 })],
    ['step 0', () => adamWStep(four(tf.ones([2]), tf.ones([2])), { learningRate: 1, step: 0 })],
    ['a rate of NaN', () => adamWStep(four(tf.ones([2]), tf.ones([2])), { learningRate: Number.NaN, step: 1 })],
    ['a beta of 1', () => adamWStep(four(tf.ones([2]), tf.ones([2])), { learningRate: 1, step: 1, beta2: 1 })],
  ])('refuses %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^adamw-step: .* must be .*; got .*\. /);
  });
});
