import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { describe, expect, it } from 'vitest';
import { array64, checkKernelParity, naiveSoftmaxCrossEntropy, uniform64 } from '@seqloom/testing';
import { softmaxCrossEntropy } from './softmax-cross-entropy.ts';
import type { SoftmaxCrossEntropyInputs } from './softmax-cross-entropy.ts';

const settings = [{}, { labelSmoothing: 0.1 }, { zLoss: 1e-2 }, { softCap: 2 }, { labelSmoothing: 0.2, zLoss: 0.1, softCap: 5 }];

describe.each(['cpu', 'wasm'])('softmax cross-entropy on %s', (backend) => {
  it.each(settings)('equals its oracle with %j', async (options) => {
    for (const labels of [[0, 4, -1, 2, -100, 4, 1], [3], [-1]]) {
      for (const lossTerms of [['loss'], ['loss', 'logSumExp'], ['logSumExp']]) {
        await checkKernelParity(backend, {
          inputs: { logits: uniform64([labels.length, 5], 3, -4, 4), labels: array64([labels.length], labels) },
          integers: ['labels'],
          run: (inputs) => softmaxCrossEntropy(inputs as SoftmaxCrossEntropyInputs, options),
          oracle: (inputs) => naiveSoftmaxCrossEntropy(inputs as never, options),
          differentiate: ['logits'],
          lossTerms,
          outputTolerance: 2e-6,
          gradientTolerance: 1e-5,
        });
      }
    }
  });

  it('is exact for logits of 1e4, one class, and confident rows', async () => {
    for (const [shape, values, labels] of [
      [
        [3, 3],
        [1e4, 1e4 - 1, -1e4, -1e4, 1e4, 0, 1e4, 9999.5, 9999.25],
        [0, 0, 2],
      ],
      [
        [2, 1],
        [1e4, -3],
        [0, -1],
      ],
      [[1, 3], [60, 0, -60], [0]],
    ] as const) {
      await checkKernelParity(backend, {
        inputs: { logits: array64(shape, values), labels: array64([labels.length], labels) },
        integers: ['labels'],
        run: (inputs) => softmaxCrossEntropy(inputs as SoftmaxCrossEntropyInputs),
        oracle: (inputs) => naiveSoftmaxCrossEntropy(inputs as never),
        differentiate: ['logits'],
        lossTerms: ['loss'],
        outputTolerance: 1e-6,
        step: 1e-9,
      });
    }
  });

  it('gives the same gradient for the constant shift that a row does not see', async () => {
    await tf.setBackend(backend);
    const [low, high] = [0, 1e4].map((shift) =>
      tf.tidy(() => {
        const logits = tf.add(tf.tensor2d([[1, 2, 3]]), shift);
        return Array.from(softmaxCrossEntropy({ logits, labels: tf.tensor1d([1], 'int32') }).loss.dataSync());
      }),
    );
    expect(high).toEqual(low);
  });

  it('takes no rows at all, and ignores rows of NaN', async () => {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const none = softmaxCrossEntropy({ logits: tf.zeros([0, 3]), labels: tf.tensor1d([], 'int32') });
      expect([none.loss.shape, none.logSumExp.shape]).toEqual([[0], [0]]);
      const poisoned = softmaxCrossEntropy({
        logits: tf.tensor2d([[Number.NaN, Number.NaN, Number.NaN]]),
        labels: tf.tensor1d([-1], 'int32'),
      });
      expect(Array.from(poisoned.loss.dataSync())).toEqual([0]);
    });
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe('the door of softmax cross-entropy', () => {
  const labels = (...values: number[]) => tf.tensor1d(values, 'int32');
  it.each([
    ['logits of rank 3', () => softmaxCrossEntropy({ logits: tf.ones([1, 2, 3]), labels: labels(0) })],
    ['float labels', () => softmaxCrossEntropy({ logits: tf.ones([1, 3]), labels: tf.zeros([1]) })],
    ['another number of labels', () => softmaxCrossEntropy({ logits: tf.ones([2, 3]), labels: labels(0) })],
    ['a label beyond the vocabulary', () => softmaxCrossEntropy({ logits: tf.ones([1, 3]), labels: labels(3) })],
    ['smoothing of 1', () => softmaxCrossEntropy({ logits: tf.ones([1, 3]), labels: labels(0) }, { labelSmoothing: 1 })],
    ['a cap of 0', () => softmaxCrossEntropy({ logits: tf.ones([1, 3]), labels: labels(0) }, { softCap: 0 })],
    ['a negative z-loss', () => softmaxCrossEntropy({ logits: tf.ones([1, 3]), labels: labels(0) }, { zLoss: -1 })],
  ])('refuses %s', (_what, call) => {
    expect(() => tf.tidy(call)).toThrow(/^softmax-cross-entropy: .* must be .*; got .*\. /);
  });
});
