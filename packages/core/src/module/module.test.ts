import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { registerGradients } from '../gradient/index.ts';
import { Embedding } from './embedding.ts';
import { normal } from './initialiser.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';
import { deriveSeed, Random } from './random.ts';

class Pair extends Module {
  readonly first = new Linear({ in: 3, out: 4, bias: true, seed: 1 });
  readonly others = [new Linear({ in: 4, out: 2, seed: 2 }), new Linear({ in: 2, out: 2, seed: 3 })];
  readonly tied = this.first;
  readonly config = { dim: 3 };
}

beforeAll(async () => {
  await tf.setBackend('cpu');
  registerGradients();
});

describe('modules', () => {
  it('names parameters by their fields, ties once, and counts them', () => {
    const before = tf.memory().numTensors;
    const pair = new Pair();
    expect([...pair.namedParameters().keys()]).toEqual(['first.weight', 'first.bias', 'others.0.weight', 'others.1.weight']);
    expect(pair.countParameters()).toBe(12 + 4 + 8 + 4);
    expect(pair.first.bias!.decay).toBe(false);
    expect(pair.first.weight.decay).toBe(true);
    pair.freeze();
    expect(pair.parameters().some(({ trainable }) => trainable)).toBe(false);
    pair.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('restores a state dict exactly, and refuses a wrong one without changing anything', async () => {
    const a = new Pair();
    const b = new Pair();
    b.first.weight.assign(tf.zeros([3, 4]));
    const weights = await a.stateDict();
    b.loadStateDict(weights);
    expect((await b.stateDict())['first.weight']).toEqual(weights['first.weight']);
    const { 'first.bias': bias, ...rest } = weights;
    expect(() => b.loadStateDict(rest)).toThrow('missing: first.bias');
    expect(() => b.loadStateDict({ ...weights, extra: bias! })).toThrow('unexpected: extra');
    const damaged = { shape: [3, 4], data: Float32Array.from({ length: 12 }, (_, i) => (i === 5 ? NaN : 0)) };
    expect(() => b.loadStateDict({ ...weights, 'first.weight': damaged })).toThrow(
      'weights["first.weight"] must be finite; got NaN at index 5',
    );
    expect(() => b.loadStateDict({ ...weights, 'first.weight': { shape: [4, 3], data: damaged.data } })).toThrow(
      'shape [3, 4]; got [4, 3]',
    );
    expect(await b.stateDict()).toEqual(weights);
  });

  it('maps the last axis of any rank', () => {
    tf.tidy(() => {
      const linear = new Linear({ in: 2, out: 3, bias: true, seed: 4 });
      const x = tf.tensor4d([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 1, 2]);
      const y = linear.forward(x);
      expect(y.shape).toEqual([2, 2, 1, 3]);
      const flat = tf.matMul(tf.reshape(x, [4, 2]) as tf.Tensor2D, linear.weight.value as tf.Tensor2D);
      expect([...y.dataSync()]).toEqual([...flat.dataSync()]);
      linear.dispose();
    });
  });

  it('refuses an assigned tensor of another shape or type', () => {
    const parameter = new Parameter([2], normal(1), 0);
    expect(() => parameter.assign(tf.zeros([3]))).toThrow('float32 [2]; got float32 [3]');
    expect(() => parameter.assign(tf.zeros([2], 'int32'))).toThrow('got int32 [2]');
    parameter.dispose();
  });

  it('trains an embedding through row gather', () => {
    const embedding = new Embedding({ count: 5, dim: 2, seed: 1 });
    tf.tidy(() => {
      const { grads } = tf.variableGrads(
        () => tf.sum(embedding.forward(tf.tensor2d([[1, 3, 1]], [1, 3], 'int32'))) as tf.Scalar,
        [embedding.weight.variable],
      );
      expect([...Object.values(grads)[0]!.dataSync()]).toEqual([0, 0, 2, 2, 0, 0, 1, 1, 0, 0]);
    });
    embedding.dispose();
  });
});

describe('random numbers', () => {
  it('repeat from a seed and from a saved state', () => {
    const a = new Random(7);
    const first = [a.uniform(), a.normal(), a.below(10)];
    const saved = a.state;
    const next = a.word();
    expect(new Random(saved).word()).toBe(next);
    const b = new Random(7);
    expect([b.uniform(), b.normal(), b.below(10)]).toEqual(first);
    expect(new Random(8).word()).not.toBe(new Random(7).word());
  });

  it('have the moments of their distribution', () => {
    const random = new Random(1);
    const n = 100_000;
    let mean = 0;
    let square = 0;
    for (let i = 0; i < n; i++) {
      const value = random.normal();
      mean += value / n;
      square += (value * value) / n;
    }
    // five standard errors
    expect(Math.abs(mean)).toBeLessThan(5 / Math.sqrt(n));
    expect(Math.abs(square - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
  });

  it('derive different seeds for different paths', () => {
    const seeds = new Set(Array.from({ length: 1000 }, (_, i) => deriveSeed(0, `layers.${i}.mixer`)));
    expect(seeds.size).toBe(1000);
  });

  it('shuffle to a permutation', () => {
    const items = new Random(3).shuffle(Uint32Array.from({ length: 50 }, (_, i) => i));
    expect([...items].toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect([...items]).not.toEqual(Array.from({ length: 50 }, (_, i) => i));
  });
});
