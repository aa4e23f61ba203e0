import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { checkKernelParity, naiveSoftmaxAttention, uniform64 } from '@seqloom/testing';
import { registerGradients } from '../gradient/index.ts';
import { softmaxAttention } from '../kernel/softmax-attention.ts';
import { mergeAttention } from './log-sum-exp.ts';

const shapes = { query: [2, 5, 2, 3], key: [2, 9, 1, 3], value: [2, 9, 1, 4] };

describe.each(['cpu', 'wasm'])('mergeAttention on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
    registerGradients();
  });

  it.each([[[9]], [[4, 5]], [[1, 2, 6]]])('of keys cut into %j is attention over all of them, gradients too', async (cuts) => {
    await checkKernelParity(backend, {
      inputs: Object.fromEntries(Object.entries(shapes).map(([name, shape], index) => [name, uniform64(shape, index + 1, -2, 2)])),
      run: (inputs) =>
        tf.tidy(() => {
          let start = 0;
          const parts = cuts.map((length) => {
            const cut = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, start, 0, 0], [-1, length, -1, -1]);
            const part = softmaxAttention({ query: inputs.query!, key: cut(inputs.key!), value: cut(inputs.value!) });
            start += length;
            return part;
          });
          return mergeAttention(parts);
        }),
      oracle: (inputs) => naiveSoftmaxAttention(inputs as never),
      differentiate: ['query', 'key', 'value'],
    });
  });

  it('lets a part without keys have no say, and is empty where all parts are', () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const full = { output: tf.tensor([3, 4], [1, 2]), logSumExp: tf.tensor([0.5]) };
      const empty = { output: tf.zeros([1, 2]), logSumExp: tf.tensor([-Infinity]) };
      const one = mergeAttention([empty, full]);
      expect([...one.output.dataSync(), ...one.logSumExp.dataSync()]).toEqual([3, 4, 0.5]);
      const none = mergeAttention([empty, empty]);
      expect([...none.output.dataSync(), ...none.logSumExp.dataSync()]).toEqual([0, 0, -Infinity]);
      const gradients = tf.grads((output, logSumExp) => tf.sum(mergeAttention([{ output, logSumExp }, empty]).output))([
        empty.output,
        empty.logSumExp,
      ]);
      for (const gradient of gradients) expect([...gradient.dataSync()].every((value) => value === 0)).toBe(true);
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('refuses nothing, and parts of different queries', () => {
    tf.tidy(() => {
      expect(() => mergeAttention([])).toThrow(/mergeAttention: parts must be at least one partial result/);
      const part = { output: tf.zeros([1, 2, 3]), logSumExp: tf.zeros([1, 2]) };
      expect(() => mergeAttention([part, { output: tf.zeros([1, 3, 3]), logSumExp: tf.zeros([1, 3]) }])).toThrow(/parts\[1\] must be/);
    });
  });
});
