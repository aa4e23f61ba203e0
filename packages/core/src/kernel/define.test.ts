import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { registerGradients } from '../gradient/index.ts';
import { defineKernel } from './define.ts';
import { kernelRuns, resetKernelRuns, setStrict } from './report.ts';

// y = a * b + c, n = a; the simplest contract with two outputs, an optional input and an input without gradient
const toy = defineKernel<{ a: tf.Tensor; b: tf.Tensor; c?: tf.Tensor; mask?: tf.Tensor }, { factor: number }, 'product' | 'copy'>({
  name: 'ToyProduct',
  outputs: ['product', 'copy'],
  composed: ({ a, b, c }, { factor }) => {
    const product = tf.mul(tf.mul(a, b), factor);
    return { product: c ? tf.add(product, c) : product, copy: tf.clone(a) };
  },
  gradient: {
    inputs: ['a', 'b', 'c'],
    needs: ['product'],
    composed: ({ a, b, c }, saved, upstream, { factor }) => {
      if (saved.product.size !== a.size) throw new Error('saved output is missing');
      return {
        a: tf.add(tf.mul(tf.mul(upstream.product, b), factor), upstream.copy),
        b: tf.mul(tf.mul(upstream.product, a), factor),
        ...(c ? { c: tf.clone(upstream.product) } : {}),
      };
    },
  },
});

describe.each(['cpu', 'wasm'])('kernel contract on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
    registerGradients();
  });
  afterEach(() => {
    setStrict(false);
  });

  it('carries gradients of several outputs, of optional inputs and of unused outputs', () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const a = tf.tensor1d([1, 2, 3]);
      const b = tf.tensor1d([4, 5, 6]);
      const c = tf.tensor1d([7, 8, 9]);
      const mask = tf.tensor1d([1, 0, 1], 'int32');
      const both = tf.grads((x, y, z) => {
        const { product, copy } = toy.run({ a: x!, b: y!, c: z!, mask }, { factor: 2 });
        return tf.add(tf.sum(product), tf.sum(tf.square(copy)));
      })([a, b, c]);
      expect([...both[0]!.dataSync()]).toEqual([8 + 2, 10 + 4, 12 + 6]);
      expect([...both[1]!.dataSync()]).toEqual([2, 4, 6]);
      expect([...both[2]!.dataSync()]).toEqual([1, 1, 1]);
      const one = tf.grad((x) => tf.sum(toy.run({ a: x, b }, { factor: 1 }).product))(a);
      expect([...one.dataSync()]).toEqual([4, 5, 6]);
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('runs its gradient kernel by itself, also for several upstream gradients and without an optional input', () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const [a, b] = [tf.tensor1d([1, 2, 3]), tf.tensor1d([4, 5, 6])];
      const upstream = { product: tf.tensor1d([1, 1, 2]), copy: tf.tensor1d([0, 1, 0]) };
      const found = toy.runGradient({ a, b }, upstream, { factor: 2 }, { product: tf.mul(tf.mul(a, b), 2) });
      expect(Object.keys(found)).toEqual(['a', 'b']);
      expect([...found.a!.dataSync()]).toEqual([8, 11, 24]);
      expect([...found.b!.dataSync()]).toEqual([2, 4, 12]);
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  it('tells a fused forward whether a gradient may follow', () => {
    const seen: boolean[] = [];
    const undo = toy.implement({
      backend,
      label: 'fused toy',
      forward: ({ inputs, taped }) => {
        seen.push(taped);
        return { product: tf.mul(inputs.a, inputs.b), copy: tf.clone(inputs.a) };
      },
    });
    tf.tidy(() => {
      const run = (x: tf.Tensor): tf.Scalar => tf.sum(toy.run({ a: x, b: x }, { factor: 1 }).product);
      const a = tf.tensor1d([1, 2]);
      run(a);
      tf.grad(run)(a);
      // within a function that has its own gradient nothing is taped
      tf.grad(tf.customGrad((x) => ({ value: run(x as tf.Tensor), gradFunc: () => tf.ones([2]) })))(a);
    });
    undo();
    expect(seen).toEqual([false, true, false]);
  });

  it('reports what ran, takes a fused implementation and gives it back', () => {
    resetKernelRuns();
    const a = tf.tensor1d([1, 2]);
    const undo = toy.implement({
      backend,
      label: 'fused toy',
      forward: ({ inputs }) => ({ product: tf.mul(inputs.a, 10), copy: tf.clone(inputs.a) }),
      supports: (_inputs, { factor }) => (factor === 1 ? true : 'factor is not 1'),
    });
    const run = (factor: number): number[] => {
      const { product, copy } = toy.run({ a, b: a }, { factor });
      const values = [...product.dataSync()];
      tf.dispose([product, copy]);
      return values;
    };
    expect(run(1)).toEqual([10, 20]);
    expect(run(3)).toEqual([3, 12]);
    undo();
    expect(run(1)).toEqual([1, 4]);
    const seen = kernelRuns().map(({ implementation, calls }) => [
      implementation.kind === 'fused' ? implementation.label : implementation.reason,
      calls,
    ]);
    expect(seen).toEqual([
      ['fused toy', 1],
      ['factor is not 1', 1],
      [`no fused forward for backend ${backend}`, 1],
    ]);
    setStrict(true);
    const before = tf.memory().numTensors;
    expect(() => toy.run({ a, b: a }, { factor: 1 })).toThrow(SeqLoomError);
    expect(tf.memory().numTensors).toBe(before);
    a.dispose();
  });
});
