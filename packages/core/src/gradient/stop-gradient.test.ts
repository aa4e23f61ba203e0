import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { registerGradients } from './index.ts';
import { stopGradient } from './stop-gradient.ts';
import { valueAndGradients } from './value-and-gradients.ts';

describe.each(['cpu', 'wasm'])('on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
    registerGradients();
  });

  it('has the values of any dtype, and outlives the tensor it came from', () => {
    const [tensors, bytes] = [tf.memory().numTensors, tf.memory().numDataBuffers];
    for (const dtype of ['float32', 'int32', 'bool'] as const) {
      const x = tf.tensor2d([[1, 0, 1]], [1, 3], dtype);
      const constant = stopGradient(x);
      expect(constant).not.toBe(x);
      expect([constant.shape, constant.dtype]).toEqual([[1, 3], dtype]);
      x.dispose();
      expect([...constant.dataSync()]).toEqual([1, 0, 1]);
      constant.dispose();
    }
    expect([tf.memory().numTensors, tf.memory().numDataBuffers]).toEqual([tensors, bytes]);
  });

  it('no gradient goes through it, and what is beside it keeps its own', () => {
    const x = tf.tensor1d([2, -3]);
    const before = tf.memory().numTensors;
    const beside = valueAndGradients(() => tf.sum(tf.mul(x, stopGradient(tf.square(x)))), [x]);
    expect(beside.value.dataSync()[0]).toBe(8 - 27);
    expect([...beside.gradients[0]!.dataSync()]).toEqual([4, 9]);
    const alone = valueAndGradients(() => tf.sum(tf.square(stopGradient(x))), [x]);
    expect(alone.value.dataSync()[0]).toBe(13);
    expect(alone.gradients).toEqual([null]);
    tf.dispose([beside.value, beside.gradients[0]!, alone.value]);
    expect(tf.memory().numTensors).toBe(before);
    x.dispose();
  });

  it('what is chosen by it needs no gradient of its own', () => {
    const x = tf.tensor1d([2, 1, 5]);
    const before = tf.memory().numTensors;
    // a top-k has no gradient, and on the tape it would ask for one
    const gradient = tf.tidy(() =>
      tf.grad((input: tf.Tensor) => tf.sum(tf.gather(tf.square(input), tf.topk(stopGradient(input), 2).indices)))(x),
    );
    expect([...gradient.dataSync()]).toEqual([4, 0, 10]);
    gradient.dispose();
    expect(tf.memory().numTensors).toBe(before);
    x.dispose();
  });

  it('is a constant of second derivatives too', () => {
    const x = tf.tensor1d([2, -3]);
    const before = tf.memory().numTensors;
    // x^2 c with c = x^3: first 2 x c, second 2 c
    const first = tf.grad((input: tf.Tensor) => tf.mul(tf.square(input), stopGradient(tf.mul(tf.square(input), input))));
    const [once, twice] = tf.tidy(() => [first(x), tf.grad((input: tf.Tensor) => first(input))(x)] as const);
    expect([...once.dataSync()]).toEqual([2 * 2 * 8, 2 * 3 * 27]);
    expect([...twice.dataSync()]).toEqual([2 * 8, 2 * -27]);
    tf.dispose([once, twice]);
    expect(tf.memory().numTensors).toBe(before);
    x.dispose();
  });
});
