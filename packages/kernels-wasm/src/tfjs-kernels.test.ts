import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import { registerGradients } from '@seqloom/core';
import { randomStream } from '@seqloom/testing';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Build } from './load.ts';
import { useWasmKernels } from './use-wasm-kernels.ts';

type DType = 'float32' | 'int32' | 'bool';

interface Plain {
  readonly shape: number[];
  readonly dtype: DType;
  readonly data: Float32Array | Int32Array | Uint8Array;
}

function plain(shape: number[], seed: number, dtype: DType = 'float32'): Plain {
  const next = randomStream(seed);
  const values = Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 4 * next() - 2);
  if (dtype === 'float32') return { shape, dtype, data: Float32Array.from(values) };
  if (dtype === 'int32') return { shape, dtype, data: Int32Array.from(values, (x) => Math.round(10 * x)) };
  return { shape, dtype, data: Uint8Array.from(values, (x) => (x > 0 ? 1 : 0)) };
}

/** Runs the same ops on a backend and reads all results. */
async function results(backend: string, inputs: readonly Plain[], run: (tensors: tf.Tensor[]) => tf.Tensor | tf.Tensor[]) {
  await tf.setBackend(backend);
  return tf.tidy(() => {
    const given = run(inputs.map(({ shape, dtype, data }) => tf.tensor(data, shape, dtype)));
    return [given].flat().map((tensor) => ({ shape: tensor.shape, dtype: tensor.dtype, data: Array.from(tensor.dataSync()) }));
  });
}

/** Compares with tfjs's cpu backend: bit by bit, or within a tolerance relative to the size of the numbers. */
async function likeCpu(inputs: readonly Plain[], run: (tensors: tf.Tensor[]) => tf.Tensor | tf.Tensor[], tolerance = 0): Promise<void> {
  const wanted = await results('cpu', inputs, run);
  const given = await results('wasm', inputs, run);
  if (tolerance === 0) return expect(given).toEqual(wanted);
  given.forEach(({ data, shape, dtype }, index) => {
    expect([shape, dtype]).toEqual([wanted[index]!.shape, wanted[index]!.dtype]);
    data.forEach((x, place) => {
      const right = wanted[index]!.data[place]!;
      expect(Math.abs(x - right)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(right)));
    });
  });
}

const dtypes: DType[] = ['float32', 'int32', 'bool'];

function permutations(rank: number): number[][] {
  if (rank === 0) return [[]];
  return permutations(rank - 1).flatMap((rest) =>
    Array.from({ length: rank }, (_, place) => [...rest.slice(0, place), rank - 1, ...rest.slice(place)]),
  );
}

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

describe.each<Build>(['simd', 'relaxed'])("tfjs's own kernels, %s build", (build) => {
  let tensors = 0;
  beforeAll(async () => {
    registerGradients();
    await tf.setBackend('wasm');
    const { undo } = await useWasmKernels({ build });
    return undo;
  });
  beforeEach(() => void (tensors = tf.memory().numTensors));
  afterEach(async () => {
    await tf.setBackend('wasm');
    expect(tf.memory().numTensors).toBe(tensors);
  });

  it.each(dtypes)('cuts and splits %s', async (dtype) => {
    const x = plain([3, 5, 7, 2], 1, dtype);
    await likeCpu([x], ([a]) => [
      tf.slice(a!, [0, 0, 0, 0], [3, 5, 7, 1]),
      tf.slice(a!, [1, 2, 3, 0], [2, 3, 2, 2]),
      tf.slice(a!, [2, 0, 0, 0], [1, -1, -1, -1]),
      tf.slice(a!, [0, 1, 6, 1], [3, 4, 1, 1]),
      tf.slice(a!, [0, 0, 0, 0], [0, 5, 7, 2]),
      ...tf.split(a!, [2, 1, 4], 2),
      ...tf.split(a!, 2, 3),
      ...tf.split(a!, 3, 0),
      ...tf.unstack(a!, 1),
      ...tf.unstack(a!, -1),
    ]);
    await likeCpu([plain([37], 2, dtype), plain([2, 3, 2, 2, 3, 2], 3, dtype)], ([a, b]) => [
      tf.slice(a!, 5, 30),
      tf.slice(b!, [1, 1, 0, 1, 0, 1], [1, 2, 2, 1, 2, 1]),
    ]);
  });

  it.each(dtypes)('joins and repeats %s', async (dtype) => {
    const [x, y, z] = [plain([2, 3, 5], 1, dtype), plain([2, 3, 1], 2, dtype), plain([2, 3, 0], 3, dtype)];
    await likeCpu([x, y, z], ([a, b, c]) => [
      tf.concat([a!, b!, c!, a!], 2),
      tf.concat([a!, a!], 0),
      tf.concat([c!, a!], 2),
      tf.concat([b!, b!, b!], 1),
      tf.stack([a!, a!], 1),
      tf.stack([b!, b!, b!], -1),
      tf.tile(a!, [2, 1, 3]),
      tf.tile(b!, [1, 2, 5]),
      tf.broadcastTo(b!, [4, 2, 3, 6]),
    ]);
  });

  it.each(['float32', 'int32', 'bool'] as DType[])('transposes %s in every order', async (dtype) => {
    await likeCpu([plain([3, 9, 1, 6], 1, dtype), plain([2, 3, 5, 2, 4], 2, dtype)], ([a, b]) => [
      ...permutations(4).map((perm) => tf.transpose(a!, perm)),
      ...permutations(5).map((perm) => tf.transpose(b!, perm)),
    ]);
    for (const [rows, columns] of [
      [1, 9],
      [16, 4],
      [33, 18],
      [7, 40],
      [3, 2],
    ] as const) {
      await likeCpu([plain([rows, columns], 5, dtype), plain([2, rows, columns], 6, dtype)], ([a, b]) => [
        tf.transpose(a!),
        tf.transpose(b!, [0, 2, 1]),
      ]);
    }
  });

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

  it('sums and averages over any axes', async () => {
    const shape = [3, 5, 2, 9];
    for (let mask = 1; mask < 16; mask++) {
      const axes = [0, 1, 2, 3].filter((axis) => mask & (1 << axis));
      for (const keep of [false, true]) {
        await likeCpu([plain(shape, mask)], ([a]) => [tf.sum(a!, axes, keep), tf.mean(a!, axes, keep)], 1e-5);
        await likeCpu([plain(shape, mask, 'int32'), plain(shape, mask, 'bool')], ([a, b]) => [
          tf.sum(a!, axes, keep),
          tf.sum(b!, axes, keep),
        ]);
      }
    }
    await likeCpu(
      [plain([1, 4, 1], 1), plain([2, 3, 2, 3, 2, 3], 2)],
      ([a, b]) => [tf.sum(a!, [0, 2]), tf.sum(b!, [0, 2, 4]), tf.sum(b!, [1, 3, 5])],
      1e-5,
    );
    await tf.setBackend('wasm');
    tf.tidy(() => {
      // rounding must not grow with the number of addends
      const many = tf.fill([300_000], 0.1);
      const right = 300_000 * Math.fround(0.1);
      expect(Math.abs(tf.sum(many).dataSync()[0]! / right - 1)).toBeLessThan(1e-6);
      expect(Math.abs(tf.sum(tf.reshape(many, [100_000, 3]), 0).dataSync()[1]! / right - 1 / 3)).toBeLessThan(2e-5);
    });
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

  it.each(['float32', 'int32'] as DType[])('gathers %s along any axis, with batches', async (dtype) => {
    const indices: Plain = { shape: [2, 3], dtype: 'int32', data: Int32Array.from([3, 0, 1, 1, 2, 3]) };
    const flat: Plain = { shape: [5], dtype: 'int32', data: Int32Array.from([1, 1, 0, 1, 0]) };
    await likeCpu([plain([2, 4, 5], 1, dtype), indices, flat], ([a, b, c]) => [
      tf.gather(a!, b!, 1),
      tf.gather(a!, b!, 2),
      tf.gather(a!, b!, 1, 1),
      tf.gather(a!, c!, 0),
      tf.gather(a!, c!, 1),
      tf.gather(a!, c!, -1),
    ]);
    await likeCpu([plain([2, 3, 4, 5], 2, dtype), { ...indices, shape: [2, 3, 1] }], ([a, b]) => [
      tf.gather(a!, b!, 2, 2),
      tf.gather(a!, b!, 3, 1),
    ]);
    await tf.setBackend('wasm');
    const [table, places] = [tf.ones([3, 2]), tf.tensor1d([0, 3], 'int32')];
    expect(() => tf.gather(table, places)).toThrow(/index value 3 is not in \[0, 2\]/);
    tf.dispose([table, places]);
  });

  it('makes one-hot rows in every dtype', async () => {
    const indices: Plain = { shape: [2, 3], dtype: 'int32', data: Int32Array.from([0, 4, 2, -1, 5, 1]) };
    await likeCpu([indices], ([a]) => [tf.oneHot(a!, 5, 1, 0, 'int32'), tf.oneHot(a!, 5, 0.5, -0.25, 'float32')]);
  });

  it.each([
    ['ij,jk->ik', [3, 4], [4, 5]],
    ['ji,jk->ki', [4, 3], [4, 5]],
    ['bhtd,bhsd->bhts', [2, 3, 4, 5], [2, 3, 6, 5]],
    ['bthd,bshd->bhts', [2, 4, 3, 5], [2, 6, 3, 5]],
    ['bhts,bshd->bthd', [2, 3, 4, 6], [2, 6, 3, 5]],
    ['btc,cn->btcn', [2, 3, 4], [4, 5]],
    ['i,j->ij', [3], [4]],
    ['i,i->', [5], [5]],
    ['ijk,j->ik', [2, 3, 4], [3]],
    ['ij,jk->i', [2, 3], [3, 5]],
    ['abc,cd->dab', [2, 3, 4], [4, 5]],
    ['ijk->ki', [2, 3, 4], null],
    ['ij->ji', [2, 3], null],
    ['ij->', [2, 3], null],
    ['ij->ij', [2, 3], null],
  ] as [string, number[], number[] | null][])('contracts %s', async (equation, left, right) => {
    const inputs = [plain(left, 1), ...(right ? [plain(right, 2)] : [])];
    await likeCpu(inputs, (tensors) => tf.einsum(equation, ...tensors), 1e-5);
  });

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

  it('sums up along any axis, forwards and backwards', async () => {
    for (const axis of [0, 1, 2]) {
      await likeCpu(
        [plain([3, 5, 6], 1), plain([3, 5, 6], 2, 'int32')],
        ([a, b]) =>
          [false, true].flatMap((own) => [false, true].flatMap((back) => [tf.cumsum(a!, axis, own, back), tf.cumsum(b!, axis, own, back)])),
        1e-6,
      );
    }
    await tf.setBackend('wasm');
    tf.tidy(() => {
      const rows = tf.tensor2d([1, 2, 3, 4, 5, 6], [2, 3]);
      expect(Array.from(tf.cumprod(rows, -1).dataSync())).toEqual([1, 2, 6, 4, 20, 120]);
      expect(Array.from(tf.cumsum(rows, -1).dataSync())).toEqual([1, 3, 6, 4, 9, 15]);
    });
  });

  it.each(dtypes)('reverses %s', async (dtype) => {
    await likeCpu([plain([3, 4, 5], 1, dtype), plain([9], 2, dtype)], ([a, b]) => [
      tf.reverse(a!, [0]),
      tf.reverse(a!, [1]),
      tf.reverse(a!, [-1, 0]),
      tf.reverse(a!, [0, 1, 2]),
      tf.reverse(b!, 0),
    ]);
  });

  it('leaves functions of whole numbers to tfjs', async () => {
    await likeCpu([plain([7], 1, 'int32')], ([a]) => [tf.neg(a!), tf.square(a!), tf.exp(a!)], 1e-5);
  });

  it('shares the data of a clone and keeps it until the last owner is gone', async () => {
    await tf.setBackend('wasm');
    const x = tf.tensor1d([1, 2, 3]);
    const copy = tf.clone(x);
    const row = tf.reshape(copy, [1, 3]);
    const wide = tf.transpose(row);
    row.dispose();
    x.dispose();
    expect(Array.from(copy.dataSync())).toEqual([1, 2, 3]);
    copy.dispose();
    const other = tf.ones([3]);
    expect(Array.from(wide.dataSync())).toEqual([1, 2, 3]);
    tf.dispose([wide, other]);
  });

  it('differentiates through shared data', async () => {
    await likeCpu(
      [plain([4, 6], 1), plain([6], 2)],
      ([a, b]) =>
        tf.grads((x: tf.Tensor, y: tf.Tensor) => {
          const [left, right] = tf.split(tf.mul(tf.clone(x), y), 2, 1) as [tf.Tensor, tf.Tensor];
          return tf.sum(tf.mul(tf.transpose(tf.softplus(left)), tf.transpose(tf.tanh(right))));
        })([a!, b!]),
      1e-5,
    );
  });

  it('stays right while the heap grows', async () => {
    await tf.setBackend('wasm');
    const x = tf.tensor2d(
      Float32Array.from({ length: 600 }, (_, index) => index),
      [20, 30],
    );
    const grown: tf.Tensor[] = [];
    for (let round = 0; round < 4; round++) {
      grown.push(tf.zeros([6_000_000]));
      tf.tidy(() => {
        expect(tf.transpose(x).dataSync()[1]).toBe(30);
        expect(tf.slice(x, [1, 1], [2, 2]).dataSync()[3]).toBe(62);
        expect(tf.sum(tf.add(x, x), 0).dataSync()[0]).toBe(11_400);
      });
    }
    tf.dispose([x, ...grown]);
  });
});
