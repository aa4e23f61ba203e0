import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, it } from 'vitest';
import { registerGradients } from './index.ts';
import { valueAndGradients } from './value-and-gradients.ts';

beforeAll(async () => {
  await tf.setBackend('cpu');
  registerGradients();
});

it('gives value and gradients, null for what takes no part', () => {
  const before = tf.memory().numTensors;
  const x = tf.tensor1d([1, 2]);
  const other = tf.tensor1d([3]);
  const { value, gradients } = valueAndGradients(() => tf.sum(tf.square(x)), [x, other]);
  expect(value.dataSync()[0]).toBe(5);
  expect([...gradients[0]!.dataSync()]).toEqual([2, 4]);
  expect(gradients[1]).toBeNull();
  tf.dispose([x, other, value, gradients[0]!]);
  expect(tf.memory().numTensors).toBe(before);
});

it('leaves nothing behind when the work throws on the way there or back, and works again afterwards', () => {
  const x = tf.tensor1d([1, 2]);
  const before = tf.memory().numTensors;
  const broken = tf.customGrad((y: tf.Tensor | tf.GradSaveFunc) => ({
    value: tf.exp(y as tf.Tensor),
    gradFunc: () => {
      throw new Error('on the way back');
    },
  }));
  expect(() => valueAndGradients(() => tf.sum(broken(tf.square(x))), [x])).toThrow('on the way back');
  expect(tf.memory().numTensors).toBe(before);
  const thrower = (): tf.Tensor => {
    tf.square(tf.exp(x));
    throw new Error('on the way there');
  };
  expect(() => valueAndGradients(thrower, [x])).toThrow('on the way there');
  expect(tf.memory().numTensors).toBe(before);
  const { value, gradients } = valueAndGradients(() => tf.sum(x), [x]);
  expect([...gradients[0]!.dataSync()]).toEqual([1, 1]);
  tf.dispose([value, gradients[0]!, x]);
});
