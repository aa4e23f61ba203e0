import { setupBackend } from '@seqloom/core';
import { gradientsOf } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { angleOf, cosine, cosinePolynomial, expMinusOne, sine, sinePolynomial } from './elementary.ts';

const worst = async (tensor: tf.Tensor, wanted: readonly number[], relative: boolean): Promise<number> => {
  const values = await tensor.data();
  tensor.dispose();
  return Math.max(...wanted.map((value, at) => Math.abs(values[at]! - value) / (relative ? Math.abs(value) : 1)));
};

describe.each(['cpu', 'wasm'] as const)('elementary functions on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('exp(x) - 1 keeps its digits from -1e-8 to -100', async () => {
    const x = Float32Array.from({ length: 500 }, (_, i) => -(10 ** (-8 + i / 50)));
    const input = tf.tensor1d(x);
    expect(await worst(expMinusOne(input), Array.from(x, Math.expm1), true)).toBeLessThan(3e-7);
    const [gradient] = gradientsOf(() => tf.sum(expMinusOne(input)), [input]);
    expect(await worst(gradient!, Array.from(x, Math.exp), false)).toBeLessThan(1e-6);
    input.dispose();
  });

  it('sine and cosine are the same by polynomial, also after a thousand turns and for tiny angles', async () => {
    const x = Float32Array.from({ length: 2001 }, (_, i) => (i - 1000) * 6.3);
    const input = tf.tensor1d(x);
    for (const [given, wanted] of [
      [sinePolynomial, Math.sin],
      [cosinePolynomial, Math.cos],
      [sine, Math.sin],
      [cosine, Math.cos],
    ] as const) {
      expect(await worst(given(input), Array.from(x, wanted), false), given.name).toBeLessThan(1e-6);
    }
    const tiny = Float32Array.from({ length: 100 }, (_, i) => 10 ** (-6 + i / 20));
    const small = tf.tensor1d(tiny.filter((value) => value < 1.5));
    expect(await worst(sinePolynomial(small), Array.from(await small.data(), Math.sin), true)).toBeLessThan(5e-7);
    const gradients = gradientsOf(() => tf.sum(tf.add(sine(small), cosine(small))), [small]);
    const slopes = Array.from(await small.data(), (value) => Math.cos(value) - Math.sin(value));
    expect(await worst(gradients[0]!, slopes, false)).toBeLessThan(1e-6);
    tf.dispose([input, small]);
  });

  it('angles are right in all four quarters, with their gradients', async () => {
    const angles = Float32Array.from({ length: 60 }, (_, i) => -3.1 + i * 0.105);
    const [y, x] = [tf.tensor1d(angles.map((a) => 2 * Math.sin(a))), tf.tensor1d(angles.map((a) => 2 * Math.cos(a)))];
    expect(await worst(angleOf(y, x), [...angles], false)).toBeLessThan(1e-6);
    const [dy, dx] = gradientsOf(() => tf.sum(angleOf(y, x)), [y, x]);
    expect(
      await worst(
        dy!,
        Array.from(angles, (a) => Math.cos(a) / 2),
        false,
      ),
    ).toBeLessThan(1e-6);
    expect(
      await worst(
        dx!,
        Array.from(angles, (a) => -Math.sin(a) / 2),
        false,
      ),
    ).toBeLessThan(1e-6);
    tf.dispose([y, x]);
  });
});
