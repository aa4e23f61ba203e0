import * as tf from '@tensorflow/tfjs-core';
import { Parameter, setupBackend } from '@seqloom/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { ToyModel } from '../toy-model.ts';
import { batchLoss } from '../evaluate.ts';
import type { TokenBatch } from '../data/windows.ts';
import { AdamW } from './adamw.ts';
import { clipScale, squaredNorm } from './clip.ts';
import { GradientSum } from './gradient-sum.ts';

const fill =
  (...values: number[]) =>
  (): Float32Array =>
    Float32Array.from(values);

beforeAll(async () => {
  await setupBackend('cpu');
});

describe('AdamW', () => {
  it('follows the formula on a quadratic, with decay and a rate per parameter', () => {
    const tensors = tf.memory().numTensors;
    const parameters = new Map([
      ['matrix', new Parameter([1, 2], fill(1, -2), 0)],
      ['slow', new Parameter([2], fill(3, 0.5), 0, { learningRateScale: 0.1 })],
    ]);
    const optimiser = new AdamW(parameters, { beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weightDecay: 0.3 });
    const expected: Record<string, number[]> = { matrix: [1, -2], slow: [3, 0.5] };
    const first: Record<string, number[]> = { matrix: [0, 0], slow: [0, 0] };
    const second: Record<string, number[]> = { matrix: [0, 0], slow: [0, 0] };
    for (let t = 1; t <= 25; t++) {
      const rate = 0.1 / t;
      // the gradient of p^2, handed over four times too large
      const gradients = new Map([...parameters].map(([name, { value }]) => [name, tf.mul(value, 8)]));
      optimiser.step(gradients, { learningRate: rate, gradientScale: 0.25 });
      tf.dispose([...gradients.values()]);
      for (const [name, values] of Object.entries(expected)) {
        const r = name === 'slow' ? 0.1 * rate : rate;
        const decay = name === 'slow' ? 0 : 0.3;
        for (const [i, p] of values.entries()) {
          const g = 2 * p;
          first[name]![i] = 0.8 * first[name]![i]! + 0.2 * g;
          second[name]![i] = 0.9 * second[name]![i]! + 0.1 * g * g;
          const step = first[name]![i]! / (1 - 0.8 ** t) / (Math.sqrt(second[name]![i]! / (1 - 0.9 ** t)) + 1e-3);
          values[i] = p * (1 - r * decay) - r * step;
        }
      }
    }
    for (const [name, parameter] of parameters) {
      parameter.value.dataSync().forEach((value, i) => expect(value, name).toBeCloseTo(expected[name]![i]!, 4));
    }
    optimiser.dispose();
    for (const parameter of parameters.values()) parameter.dispose();
    expect(tf.memory().numTensors).toBe(tensors);
  });

  it('decays matrices alone, obeys rules by name and leaves frozen parameters out', () => {
    const model = new ToyModel({ vocabSize: 16, dim: 4 });
    model.block.norm1!.freeze();
    const optimiser = new AdamW(model.namedParameters(), {
      weightDecay: 0.1,
      groups: [
        { match: 'embedding.*', weightDecay: 0, learningRateScale: 0.5 },
        { match: /\.bias$/g, weightDecay: 1 },
        { match: 'head.weight', frozen: true },
      ],
    });
    const rules = Object.fromEntries(
      optimiser.rules.map(({ name, weightDecay, learningRateScale }) => [name, [weightDecay, learningRateScale]]),
    );
    expect(rules).toEqual({
      'embedding.weight': [0, 0.5],
      'block.mixer.input.weight': [0.1, 1],
      'block.mixer.input.bias': [0, 1],
      'block.mixer.taps': [0.1, 1],
      'block.mixer.output.weight': [0.1, 1],
      'block.mixer.output.bias': [0, 1],
      'norm.weight': [0, 1],
      'head.bias': [0, 1],
    });
    model.freeze();
    expect(() => new AdamW(model.namedParameters())).toThrow('at least one that is not frozen; got 10 frozen ones');
    expect(() => new AdamW(model.namedParameters(), { beta1: 1 })).toThrow('adamw: beta1 must be at least 0 and below 1; got 1');
    model.dispose();
  });

  it('leaves a parameter without a gradient as it is', () => {
    const parameter = new Parameter([1, 1], fill(2), 0);
    const optimiser = new AdamW(new Map([['p', parameter]]));
    optimiser.step(new Map(), { learningRate: 1 });
    expect([...parameter.value.dataSync()]).toEqual([2]);
    parameter.dispose();
  });

  it('refuses a state of other parameters and keeps its own', async () => {
    const parameter = new Parameter([2], fill(2, 3), 0);
    const optimiser = new AdamW(new Map([['p', parameter]]));
    const gradient = tf.ones([2]);
    optimiser.step(new Map([['p', gradient]]), { learningRate: 0.1 });
    const before = await optimiser.state();
    const moment = (shape: number[], value = 0): { shape: number[]; data: Float32Array } => ({
      shape,
      data: new Float32Array(2).fill(value),
    });
    const load = (moments: Record<string, ReturnType<typeof moment>>) => () => optimiser.load({ step: 9, moments });
    expect(load({ 'first.q': moment([2]), 'second.q': moment([2]) })).toThrow('moment first.q must be of a parameter that is trained');
    expect(load({ 'first.p': moment([2]) })).toThrow('a pair of moments');
    expect(load({ 'first.p': moment([2, 1]), 'second.p': moment([2, 1]) })).toThrow('of shape [2]');
    expect(load({ 'first.p': moment([2]), 'second.p': moment([2], Number.NaN) })).toThrow('must be finite; got NaN at index 0');
    expect(await optimiser.state()).toEqual(before);
    optimiser.dispose();
    gradient.dispose();
    parameter.dispose();
  });
});

describe('clipping', () => {
  it('takes one norm over all tensors and keeps the direction', () => {
    const tensors = [tf.tensor1d([3, 0]), tf.tensor2d([[0], [4]]), tf.scalar(12)];
    const norm = Math.sqrt(squaredNorm(tensors).dataSync()[0]!);
    expect(norm).toBe(13);
    expect(clipScale(norm, 1) * norm).toBeCloseTo(1, 6);
    expect(clipScale(norm, 20)).toBe(1);
    expect(clipScale(norm, null)).toBe(1);
    tf.dispose(tensors);
  });
});

describe('accumulation', () => {
  it('of ragged micro-batches equals one batch of all', async () => {
    const model = new ToyModel({ vocabSize: 16, dim: 4 });
    const optimiser = new AdamW(model.namedParameters());
    const tensors = tf.memory().numTensors;
    const ids = Int32Array.from({ length: 24 }, (_, i) => (7 * i + 3) % 16);
    // rows of six labels with 6, 1, 3 and 2 that count
    const labels = ids.map((id, i) => (i % 6 < [6, 1, 3, 2][Math.floor(i / 6)]! ? (id + 5) % 16 : -1));
    const part = (from: number, to: number): TokenBatch => {
      const own = labels.slice(from * 6, to * 6);
      return {
        ids: ids.slice(from * 6, to * 6),
        labels: own,
        rows: to - from,
        length: 6,
        tokens: own.filter((label) => label >= 0).length,
      };
    };
    const results = [];
    for (const cuts of [
      [0, 4],
      [0, 1, 2, 4],
    ]) {
      const sum = new GradientSum(optimiser.rules);
      for (let i = 1; i < cuts.length; i++) {
        const batch = part(cuts[i - 1]!, cuts[i]!);
        sum.add(() => batchLoss(model, batch, true), batch.tokens);
      }
      const measured = await sum.measure();
      const gradients = Object.fromEntries([...sum.gradients].map(([name, tensor]) => [name, [...tensor.dataSync()]]));
      results.push({ ...measured, tokens: sum.tokens, gradients });
      sum.reset();
    }
    const [whole, parts] = results as [(typeof results)[0], (typeof results)[0]];
    expect(whole.tokens).toBe(12);
    expect(parts.tokens).toBe(12);
    expect(parts.loss).toBeCloseTo(whole.loss, 6);
    expect(parts.norm).toBeCloseTo(whole.norm, 6);
    expect(Object.keys(whole.gradients)).toHaveLength(10);
    for (const [name, values] of Object.entries(whole.gradients)) {
      values.forEach((value, i) => expect(parts.gradients[name]![i], name).toBeCloseTo(value, 5));
    }
    expect(tf.memory().numTensors).toBe(tensors);
    optimiser.dispose();
    model.dispose();
  });
});
