import { setupBackend, tidy } from '@seqloom/core';
import { opTensor, relativeError64, uniform64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { HgrnLowerBounds } from '../hgrn/lower-bounds.ts';
import { card } from './card.ts';
import { forgetGate } from './forget-gate.ts';
import { hgrn2 } from './hgrn2.ts';
import { Hgrn2 } from './layer.ts';
import { naiveForgetGate } from './naive.ts';

describe.each(['cpu', 'wasm'] as const)('hgrn2 on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('the gate keeps the digits of its logarithm and of its complement, with and without a bound', async () => {
    const logits = [-100, -20, -3, -0.5, 0, 0.5, 3, 10, 16, 40];
    for (const bound of [null, 1e-6, 0.3, 0.9]) {
      const wanted = logits.map((logit) => naiveForgetGate(logit, Math.fround(bound ?? 0)));
      const { logDecay, write } = tidy(() => forgetGate(tf.tensor1d(logits), bound === null ? null : tf.scalar(bound)));
      const [logs, complements] = [await logDecay.data(), await write.data()];
      for (const [i, right] of wanted.entries()) {
        // each number by itself, since they span forty orders of magnitude
        expect(Math.abs(complements[i]! / right.write - 1)).toBeLessThan(1e-6);
        expect(Math.abs(logs[i]! / right.logDecay - 1)).toBeLessThan(1e-6);
      }
      tf.dispose([logDecay, write]);
    }
  });

  it('a bound that rounds to 0 or to 1 leaves finite gates and gradients', async () => {
    const logits = tf.tensor1d([-100, 0, 100]);
    for (const bound of [0, 1]) {
      const slopes = tf.grads((z, gamma) => tf.sum(forgetGate(z!, gamma!).logDecay))([logits, tf.fill([3], bound)]);
      for (const slope of slopes) expect((await slope.data()).every(Number.isFinite)).toBe(true);
      tf.dispose(slopes);
    }
    logits.dispose();
  });

  it('rows of memory are weighted means of values: none is larger than the largest value', async () => {
    const memory = tidy(
      () =>
        hgrn2({
          query: tf.ones([1, 200, 2, 4]),
          logDecay: opTensor(uniform64([1, 200, 2, 4], 1, -3, 0)),
          value: opTensor(uniform64([1, 200, 2, 3], 2)),
        }).state.memory,
    );
    expect(Math.max(...(await memory.data()).map(Math.abs))).toBeLessThanOrEqual(1);
    memory.dispose();
  });

  it('layers of a model share their lower bounds; the first has none', async () => {
    const bounds = new HgrnLowerBounds({ layers: 3, width: 8 });
    const layers = [0, 1, 2].map((layer) => new Hgrn2({ dim: 8, heads: 2, layers: 3, layer }, bounds));
    expect(layers.map(({ lowerBounds }) => lowerBounds === bounds)).toEqual([false, true, true]);
    expect(() => new Hgrn2({ dim: 8, heads: 2, layers: 4, layer: 1 }, bounds)).toThrow(/lowerBounds/);
    const gammas = [0, 1, 2].map((layer) => bounds.at(layer));
    expect(relativeError64(await gammas[2]!.data(), new Float64Array(8).fill(2 / 3))).toBeLessThan(1e-6);
    expect([...(await gammas[0]!.data())]).toEqual(Array<number>(8).fill(0));
    tf.dispose(gammas);
    for (const layer of layers) layer.dispose();
  });

  it('parameters and state are as many as the budget says', () => {
    const layer = new Hgrn2({ dim: 256 });
    const count = [...layer.namedParameters()].reduce((sum, [, parameter]) => sum + parameter.size, 0);
    expect(count).toBe(4 * 256 ** 2 + 256);
    expect(layer.stateBytes(1, 1000)).toBe(card.stateBytes(1000, { heads: 2 }));
    layer.dispose();
  });
});
