import { disposeState, setupBackend } from '@seqloom/core';
import { relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { card as lm2Card } from './card.ts';
import { firstSlots } from './first-slots.ts';
import { Lm2 } from './layer.ts';
import { publishedLm2Memory } from './published.ts';

it('slots start as distinct vectors of length one', () => {
  for (const dim of [4, 5]) {
    const slots = (dim * (dim + 1)) / 2;
    const table = firstSlots(slots, dim);
    const rows = Array.from({ length: slots }, (_, i) => [...table.slice(i * dim, (i + 1) * dim)]);
    expect(new Set(rows.map(String)).size).toBe(slots);
    for (const row of rows) expect(Math.hypot(...row)).toBeCloseTo(1, 6);
  }
});

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  const build = (): Lm2 => new Lm2({ dim: 8, heads: 2, slots: 4, segmentLength: 4, attention: false, seed: 3 });

  it('tokens of a segment change what the next segment reads, and nothing before', async () => {
    const layer = build();
    const x = tf.randomNormal([1, 8, 8], 0, 1, 'float32', 5);
    const gradient = tf.tidy(() => tf.grad((input: tf.Tensor) => tf.sum(tf.slice(layer.forward(input).output, [0, 4, 0], [1, 1, 8])))(x));
    const size = tf.tidy(() => tf.sum(tf.abs(gradient), 2));
    const values = [...(await size.data())];
    expect(values.slice(0, 5).every((value) => value > 0)).toBe(true);
    expect(values.slice(5)).toEqual([0, 0, 0]);
    tf.dispose([x, gradient, size]);
    layer.dispose();
  });

  it('the bank stays within 1 / (1 - forget), also after many segments, and its slots differ', async () => {
    const layer = build();
    let state = layer.initialState(1);
    for (let i = 0; i < 20; i++) {
      const x = tf.randomNormal([1, 8, 8], 0, 3, 'float32', 5 + i);
      const next = layer.forward(x, { state });
      tf.dispose([x, next.output]);
      disposeState(state);
      state = next.state;
    }
    const memory = await state.memory!.data();
    // gates of this size keep the forget gate below 0.999
    expect(Math.max(...memory.map(Math.abs))).toBeLessThan(1000);
    expect(Math.abs(memory[0]! - memory[8]!)).toBeGreaterThan(1e-4);
    disposeState(state);
    layer.dispose();
  });

  it('beside softmax attention the state grows with its cache alone, and one token goes on from any place', async () => {
    const layer = new Lm2({ dim: 8, heads: 2, slots: 4, segmentLength: 4, seed: 3 });
    const x = tf.randomNormal([2, 11, 8], 0, 1, 'float32', 5);
    const whole = layer.forward(x);
    expect(lm2Card.stateBytes(11, { dim: 8, slots: 4, segmentLength: 4 })).toBe(layer.stateBytes(1, 11));
    let state = layer.initialState(2);
    const outputs: tf.Tensor[] = [];
    for (let t = 0; t < 11; t++) {
      const token = tf.slice(x, [0, t, 0], [2, 1, 8]);
      const next = layer.forward(token, { state });
      token.dispose();
      disposeState(state);
      outputs.push(next.output);
      state = next.state;
    }
    const joined = tf.concat(outputs, 1);
    expect(relativeError64(await joined.data(), await whole.output.data())).toBeLessThan(1e-5);
    expect(relativeError64(await state.memory!.data(), await whole.state.memory!.data())).toBeLessThan(1e-5);
    disposeState(state);
    disposeState(whole.state);
    tf.dispose([x, whole.output, joined, outputs]);
    layer.dispose();
  });

  it('the attention beside it takes keys of its own', () => {
    const config = { dim: 8, heads: 2, slots: 4, segmentLength: 4 };
    const [plain, grouped] = [{}, { attention: { heads: 4, kvHeads: 1 } }].map((more) => new Lm2({ ...config, ...more }));
    // keys and values of one head of 2 channels in the place of 8
    expect(plain!.countParameters() - grouped!.countParameters()).toBe(2 * 8 * (8 - 2));
    const { output, state } = grouped!.forward(tf.ones([1, 3, 8]));
    expect(output.shape).toEqual([1, 3, 8]);
    expect(() => new Lm2({ ...config, attention: { kvHead: 1 } })).toThrow(/kvHead.*unknown/s);
    disposeState(state);
    output.dispose();
    plain!.dispose();
    grouped!.dispose();
  });

  it('the trap of the released form: a later token changes the output of the first one', async () => {
    const n = 4;
    const square = (seed: number): tf.Tensor => tf.randomNormal([n, n], 0, 1, 'float32', seed);
    const map = (seed: number): { weight: tf.Tensor; bias: tf.Tensor } => ({ weight: square(seed), bias: tf.zeros([n]) });
    const gate = (seed: number): { weight: tf.Tensor; bias: tf.Tensor } => ({
      weight: tf.randomNormal([n, 2 * n], 0, 1, 'float32', seed),
      bias: tf.zeros([2 * n]),
    });
    const leak = tf.tidy(() => {
      const norm = { weight: tf.ones([n]), bias: tf.zeros([n]) };
      const parameters = {
        query: map(1),
        key: map(2),
        value: map(3),
        channel: map(4),
        attendedNorm: norm,
        channelNorm: norm,
        inputScale: tf.ones([n]),
        inputGate: gate(5),
        memoryGate: gate(6),
        inputBias: tf.scalar(0),
        forgetBias: tf.scalar(1),
      };
      const memory = tf.expandDims(tf.eye(n), 0);
      const first = (input: tf.Tensor): tf.Tensor =>
        tf.sum(tf.slice(publishedLm2Memory({ input, memory }, parameters, { heads: 2 }).output, [0, 0, 0], [1, 1, n]));
      const gradient = tf.grad(first)(tf.expandDims(square(7), 0));
      return tf.sum(tf.abs(tf.slice(gradient, [0, n - 1, 0], [1, 1, n])));
    });
    expect((await leak.data())[0]).toBeGreaterThan(0);
    leak.dispose();
  });
});
