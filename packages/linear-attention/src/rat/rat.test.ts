import { setupBackend } from '@seqloom/core';
import { expectCloseTo, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { Rat } from './layer.ts';
import { naiveRat } from './naive.ts';
import { rat } from './rat.ts';
import type { RatState } from './chunk-cache.ts';

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  const names = ['query', 'key', 'value', 'logDecay'] as const;
  const inputs = Object.fromEntries(
    names.map((name, seed) => [name, uniform64([2, 14, 1, 4], seed, name === 'logDecay' ? -2 : -1, name === 'logDecay' ? 0 : 1)]),
  ) as Record<(typeof names)[number], Array64>;
  // tokens [from, from + count) of one row
  const piece = (row: number, from: number, count: number): Record<(typeof names)[number], Array64> =>
    Object.fromEntries(
      names.map((name) => {
        const start = (row * 14 + from) * 4;
        return [name, { shape: [1, count, 1, 4], data: inputs[name].data.slice(start, start + 4 * count) }];
      }),
    ) as unknown as Record<(typeof names)[number], Array64>;

  it.each(['chunk', 'recurrent'] as const)('rows of different lengths keep the chunks of their own, over many calls, %s', async (form) => {
    // valid tokens of both rows in three calls of up to five tokens, then one by one
    const calls = [
      [5, 2],
      [1, 4],
      [4, 0],
      [1, 1],
      [1, 1],
      [1, 1],
    ] as const;
    const seen = [0, 0];
    let state: RatState | undefined;
    for (const counts of calls) {
      const length = Math.max(...counts);
      const tensors = Object.fromEntries(
        names.map((name) => {
          const data = new Float32Array(2 * length * 4);
          counts.forEach((count, row) => data.set(piece(row, seen[row]!, count)[name].data, row * length * 4));
          return [name, tf.tensor(data, [2, length, 1, 4])];
        }),
      ) as Record<(typeof names)[number], tf.Tensor>;
      const lengths = tf.tensor1d([...counts]);
      const result = rat(tensors, { form, chunkSize: 3, lengths, ...(state ? { state } : {}) });
      for (const [row, count] of counts.entries()) {
        if (count === 0) continue;
        const whole = naiveRat(piece(row, 0, seen[row]! + count), { chunkSize: 3, scale: 0.5, rotaryBase: 10000, start: 0 });
        const own = tf.slice(result.output, [row, 0, 0, 0], [1, count, 1, 4]);
        await expectCloseTo(own, { shape: [1, count, 1, 4], data: whole.output.data.slice(4 * seen[row]!) }, 1e-5, `row ${row}`);
        own.dispose();
        seen[row] += count;
      }
      if (state) tf.dispose({ ...state });
      ({ state } = result);
      tf.dispose([result.output, lengths, { ...tensors }]);
    }
    // nothing was read back, and yet the longer row's 13 tokens have room for their 4 chunks and hardly more
    expect(seen).toEqual([13, 9]);
    expect([4, 5]).toContain(state!.key.shape[1]);
    tf.dispose({ ...state });
  });

  it('the cache has an entry per finished chunk, whatever the pieces are', () => {
    const layer = new Rat({ dim: 8, heads: 2, chunkSize: 4 });
    const x = tf.zeros([1, 3, 8]);
    let { output, state } = layer.forward(x);
    for (let call = 1; call < 5; call++) {
      const next = layer.forward(x, { state });
      tf.dispose([output, { ...state }]);
      ({ output, state } = next);
      expect(state['key']!.shape[1]).toBe(Math.floor((3 * (call + 1)) / 4));
    }
    tf.dispose([x, output, { ...state }]);
    layer.dispose();
  });

  it('has the parameter budget of its doc comment', () => {
    const layer = new Rat({ dim: 16, heads: 4 });
    expect(layer.countParameters()).toBe(4 * 16 * 16 + 2 * 2 * 4 * 16 + 16);
    const single = new Rat({ dim: 16, heads: 4, chunkSize: 1 });
    expect(single.countParameters()).toBe(3 * 16 * 16 + 2 * 2 * 4 * 16);
    for (const each of [layer, single]) each.dispose();
  });
});
