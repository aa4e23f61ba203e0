import * as tf from '@tensorflow/tfjs-core';
import { randomStream } from '@seqloom/testing';
import { expect, it } from 'vitest';
import { describeTfjs, likeCpu, plain } from './like-cpu.ts';
import type { Plain } from './like-cpu.ts';

/** The float64 value of a function beside the float32 one: distance in units in the last place of the right answer. */
function ulps(given: number, right: number): number {
  const size = Math.max(Math.abs(right), 2 ** -126);
  return Math.abs(given - right) / 2 ** (Math.floor(Math.log2(size)) - 23);
}

/** erf in double precision: its series, or near 1 the continued fraction of the complement. */
function erf(x: number): number {
  if (x < 0) return -erf(-x);
  if (x > 3) {
    let fraction = 0;
    for (let k = 60; k > 0; k--) fraction = k / 2 / (x + fraction);
    return 1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
  }
  let [term, sum] = [x, x];
  for (let k = 1; k < 100; k++) {
    term *= (-x * x) / k;
    sum += term / (2 * k + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

describeTfjs("tfjs's own kernels of numbers one by one", () => {
  it.each([
    [[], []],
    [[1], [5]],
    [[6], []],
    [
      [3, 5],
      [3, 5],
    ],
    [[3, 5], [5]],
    [
      [3, 1],
      [3, 9],
    ],
    [
      [8, 1],
      [1, 13],
    ],
    [
      [2, 3, 4, 5],
      [2, 1, 4, 1],
    ],
    [
      [2, 1, 4, 1, 3],
      [1, 5, 1, 6, 1],
    ],
    [
      [2, 3, 2, 3, 2, 3],
      [1, 3, 1, 3, 1, 3],
    ],
    [[2, 3, 1], [7]],
    [[0, 3], [3]],
  ] as [number[], number[]][])('broadcasts %j with %j', async (left, right) => {
    for (const [one, other] of [
      [left, right],
      [right, left],
    ] as const) {
      for (const dtype of ['float32', 'int32'] as const) {
        await likeCpu([plain([...one], 1, dtype), plain([...other], 2, dtype)], ([a, b]) => [
          tf.add(a!, b!),
          tf.sub(a!, b!),
          tf.mul(a!, b!),
          tf.maximum(a!, b!),
          tf.minimum(a!, b!),
          tf.less(a!, b!),
          tf.lessEqual(a!, b!),
          tf.greater(a!, b!),
          tf.greaterEqual(a!, b!),
          tf.equal(a!, tf.add(a!, tf.maximum(b!, tf.zerosLike(b!)))),
          tf.notEqual(a!, tf.add(a!, tf.maximum(b!, tf.zerosLike(b!)))),
        ]);
      }
      await likeCpu([plain([...one], 1), plain([...other], 2)], ([a, b]) => tf.div(a!, b!));
      await likeCpu([plain([...one], 1, 'bool'), plain([...other], 2)], ([a, b]) => tf.mul(a!, b!));
    }
  });

  it.each([
    ['exp', tf.exp, Math.exp, [-103, 89], [-Infinity, 0], [Infinity, Infinity], [100, Infinity], [-100, Math.exp(-100)], [0, 1]],
    ['tanh', tf.tanh, Math.tanh, [-12, 12], [-Infinity, -1], [Infinity, 1], [100, 1], [-100, -1], [0, 0]],
    [
      'softplus',
      tf.softplus,
      (x: number) => Math.log1p(Math.exp(x)),
      [-100, 80],
      [-Infinity, 0],
      [Infinity, Infinity],
      [100, 100],
      [-100, Math.exp(-100)],
    ],
    [
      'log1p',
      tf.log1p,
      Math.log1p,
      [-0.999, 3],
      [-1, -Infinity],
      [-2, NaN],
      [Infinity, Infinity],
      [1e30, Math.log(1e30)],
      [1e-30, 1e-30],
      [0, 0],
    ],
    [
      'log',
      tf.log,
      Math.log,
      [1e-6, 3],
      [0, -Infinity],
      [-1, NaN],
      [Infinity, Infinity],
      [1e-40, Math.log(Math.fround(1e-40))],
      [1e38, Math.log(Math.fround(1e38))],
      [1, 0],
    ],
    ['rsqrt', tf.rsqrt, (x: number) => 1 / Math.sqrt(x), [1e-6, 100], [0, Infinity], [-1, NaN], [Infinity, 0], [4, 0.5]],
    ['erf', tf.erf, erf, [-5, 5], [0, 0], [Infinity, 1], [-Infinity, -1], [100, 1], [1e-20, 1e-20 * 1.1283791670955126]],
    ['sin', tf.sin, Math.sin, [-9, 9], [0, 0], [Infinity, NaN], [65535, Math.sin(65535)], [1e6, Math.sin(1e6)], [-100, Math.sin(-100)]],
    ['cos', tf.cos, Math.cos, [-9, 9], [0, 1], [-Infinity, NaN], [65535, Math.cos(65535)], [1e6, Math.cos(1e6)], [-100, Math.cos(-100)]],
    ['neg', tf.neg, (x: number) => -x, [-9, 9], [Infinity, -Infinity]],
    ['square', tf.square, (x: number) => x * x, [-9, 9], [-Infinity, Infinity], [1e-30, 0]],
  ] as [string, (x: tf.Tensor) => tf.Tensor, (x: number) => number, [number, number], ...[number, number][]][])(
    '%s is within 3 units in the last place and right at the ends',
    async (_name, op, right, [low, high], ...points) => {
      await tf.setBackend('wasm');
      tf.tidy(() => {
        const next = randomStream(5);
        const values = Float32Array.from({ length: 10_001 }, (_, index) =>
          index % 2 ? low + (high - low) * next() : low + ((high - low) * index) / 10_000,
        );
        const given = op(tf.tensor1d(values)).dataSync();
        let worst = 0;
        values.forEach((x, place) => {
          const wanted = Math.fround(right(x));
          if (Number.isFinite(wanted)) worst = Math.max(worst, ulps(given[place]!, right(x)));
          else expect(given[place]).toBe(wanted);
        });
        expect(worst).toBeLessThanOrEqual(3);
        for (const [x, y] of points) {
          const value = op(tf.tensor1d([x])).dataSync()[0]!;
          if (Number.isFinite(y)) expect(ulps(value, y), `at ${x}`).toBeLessThanOrEqual(2);
          else expect(value, `at ${x}`).toBe(y);
        }
        expect(op(tf.tensor1d([NaN])).dataSync()[0]).toBeNaN();
      });
    },
  );

  it.each([[1], [3, 7], [4, 16], [5, 33]])('compares, combines and chooses, shape %j %j', async (...shape) => {
    const sides = [plain(shape, 1), plain(shape, 2), plain(shape, 3, 'int32'), plain(shape, 4, 'int32'), plain([1], 5)];
    await likeCpu([...sides, plain(shape, 6, 'bool'), plain(shape, 7, 'bool')], ([a, b, i, j, one, p, q]) => [
      tf.less(a!, b!),
      tf.greaterEqual(i!, j!),
      tf.equal(i!, tf.maximum(i!, j!)),
      tf.greater(a!, one!),
      tf.less(one!, a!),
      tf.notEqual(a!, a!),
      tf.logicalAnd(p!, q!),
      tf.logicalOr(p!, q!),
      tf.where(p!, a!, b!),
      tf.where(q!, i!, j!),
      tf.where(p!, a!, one!),
      tf.equal(p!, q!),
    ]);
  });

  it('compares NaN and infinities as numbers do', async () => {
    const odd: Plain = { shape: [5], dtype: 'float32', data: Float32Array.from([NaN, Infinity, -Infinity, 0, -0]) };
    await likeCpu([odd, { ...odd, data: odd.data.toReversed() }], ([a, b]) => [
      tf.less(a!, b!),
      tf.equal(a!, a!),
      tf.notEqual(a!, b!),
      tf.greaterEqual(a!, b!),
      tf.maximum(a!, b!),
      tf.minimum(a!, b!),
    ]);
  });

  it('leaves functions of whole numbers to tfjs', async () => {
    await likeCpu([plain([7], 1, 'int32')], ([a]) => [tf.neg(a!), tf.square(a!), tf.exp(a!)], 1e-5);
  });
});
