import { setupBackend } from '@seqloom/core';
import { expectCloseTo, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { aaren } from './aaren.ts';
import { Aaren } from './layer.ts';
import { naiveAaren } from './naive.ts';

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(['parallel', 'recurrent'] as const)('a masked token is not seen, also the first and between others, %s', async (form) => {
    const [query, key, value] = [uniform64([2, 3], 1, -2, 2), uniform64([1, 9, 2, 3], 2, -2, 2), uniform64([1, 9, 2, 4], 3)];
    const kept = [1, 2, 6, 7];
    const pick = (array: Array64): Array64 => {
      const size = array.data.length / 9;
      const rows = kept.flatMap((t) => [...array.data.subarray(t * size, (t + 1) * size)]);
      return { shape: [1, 4, ...array.shape.slice(2)], data: Float64Array.from(rows) };
    };
    const tensor = (array: Array64): tf.Tensor => tf.tensor(Float32Array.from(array.data), [...array.shape]);
    const wanted = naiveAaren({ query, key: pick(key), value: pick(value) }, 3 ** -0.5);
    const found = tf.tidy(() => {
      const mask = tf.tensor2d([0, 1, 1, 0, 0, 0, 1, 1, 0], [1, 9]);
      const { output, state } = aaren({ query: tensor(query), key: tensor(key), value: tensor(value) }, { form, mask });
      return { output, ...state } as { output: tf.Tensor; maximum: tf.Tensor; denominator: tf.Tensor; numerator: tf.Tensor };
    });
    for (const name of ['maximum', 'denominator', 'numerator'] as const) await expectCloseTo(found[name], wanted[name], 1e-6, name);
    // before the first token there is nothing to average
    expect([...(await found.output.data()).slice(0, 8)]).toEqual(Array(8).fill(0));
    tf.dispose(found);
  });

  it('ten thousand tokens in pieces equal the whole, with logits that climb to 1e4', async () => {
    const length = 10_000;
    const logits = Float32Array.from({ length }, (_, t) => t - 3 * (t % 7));
    const [query, key] = [tf.ones([1, 1]), tf.tensor(logits, [1, length, 1, 1])];
    const value = tf.tensor(
      Float32Array.from({ length }, (_, t) => Math.sin(t)),
      [1, length, 1, 1],
    );
    const whole = aaren({ query, key, value }, { scale: 1 });
    const cut = (tensor: tf.Tensor, from: number, size: number): tf.Tensor => tf.slice(tensor, [0, from, 0, 0], [1, size, 1, 1]);
    const { last, denominator } = tf.tidy(() => {
      const { state } = aaren({ query, key: cut(key, 0, 4321), value: cut(value, 0, 4321) }, { scale: 1 });
      const rest = { query, key: cut(key, 4321, length - 4321), value: cut(value, 4321, length - 4321) };
      const result = aaren(rest, { scale: 1, state });
      return { last: cut(result.output, length - 4322, 1), denominator: result.state.denominator };
    });
    const wanted = await whole.output.data();
    await expectCloseTo(last, { shape: [1, 1, 1, 1], data: Float64Array.of(wanted[length - 1]!) }, 1e-6, 'last output');
    await expectCloseTo(denominator, { shape: [1, 1], data: Float64Array.from(await whole.state.denominator.data()) }, 1e-6, 'u');
    tf.dispose([query, key, value, whole.output, { ...whole.state }, last, denominator]);
  });

  it('has the parameter budget of its doc comment', () => {
    const layer = new Aaren({ dim: 16 });
    expect(layer.countParameters()).toBe(4 * 16 * 16 + 16);
    layer.dispose();
  });
});
