import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { describeTfjs, likeCpu, plain } from './like-cpu.ts';
import type { DType, Plain } from './like-cpu.ts';

const dtypes: DType[] = ['float32', 'int32', 'bool'];

function permutations(rank: number): number[][] {
  if (rank === 0) return [[]];
  return permutations(rank - 1).flatMap((rest) =>
    Array.from({ length: rank }, (_, place) => [...rest.slice(0, place), rank - 1, ...rest.slice(place)]),
  );
}

describeTfjs("tfjs's own kernels", () => {
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
