import { disposeState, setupBackend, tidy } from '@seqloom/core';
import { MultiHeadAttention } from '@seqloom/attention';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { cachedMobaAttention, emptyMobaState, mobaAttention, MobaAttention } from './index.ts';

describe.each(['cpu', 'wasm'] as const)('moba on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('of equal gates the earlier blocks are chosen, in both forms', async () => {
    // five blocks of two tokens; the value of a token is 10 to the power of its block
    const value = tf.tensor(
      Array.from({ length: 10 }, (_, t) => 10 ** Math.floor(t / 2)),
      [1, 10, 1, 1],
    );
    const [query, key] = [tf.ones([1, 10, 1, 2]), tf.zeros([1, 10, 1, 2])];
    const heads = { query, key, value };
    const chunk = mobaAttention(heads, { blockSize: 2, topK: 3 }).output;
    const decode = tidy(
      () => cachedMobaAttention(heads, emptyMobaState({ batch: 1, heads: 1, headDim: 2, valueDim: 1 }), { blockSize: 2, topK: 3 }).output,
    );
    for (const output of [chunk, decode]) {
      // the last token reads blocks 0 and 1 and its own
      expect((await output.data())[9]! / ((2 * 1 + 2 * 10 + 2 * 10_000) / 6)).toBeCloseTo(1, 6);
    }
    tf.dispose([heads, chunk, decode]);
  });

  it('never reads the values of blocks that are not chosen', async () => {
    const key = tf.tensor(
      Array.from({ length: 12 }, (_, t) => (t < 4 ? 1 : -1)),
      [1, 12, 1, 1],
    );
    // the second block of four has keys of -1, so that the queries of the third choose the first
    const value = tf.tensor(
      Array.from({ length: 12 }, (_, t) => (t >= 4 && t < 8 ? NaN : t)),
      [1, 12, 1, 1],
    );
    const query = tf.ones([1, 12, 1, 1]);
    const output = mobaAttention({ query, key, value }, { blockSize: 4, topK: 2 }).output;
    const data = await output.data();
    expect([...data.subarray(0, 4), ...data.subarray(8)].every(Number.isFinite)).toBe(true);
    const state = emptyMobaState({ batch: 1, heads: 1, headDim: 1 });
    const cut = (x: tf.Tensor, from: number, count: number): tf.Tensor => tf.slice(x, [0, from, 0, 0], [1, count, 1, 1]);
    const last = tidy(() => {
      const piece = (from: number, count: number) => ({
        query: cut(query, from, count),
        key: cut(key, from, count),
        value: cut(value, from, count),
      });
      const before = cachedMobaAttention(piece(0, 11), state, { blockSize: 4, topK: 2 });
      return cachedMobaAttention(piece(11, 1), before.state, { blockSize: 4, topK: 2 }).output;
    });
    expect((await last.data())[0]! / data[11]!).toBeCloseTo(1, 6);
    tf.dispose([query, key, value, output, last, { ...state }]);
  });

  it('takes the weights of full attention, and gives its outputs while the sequence fits the chosen blocks', async () => {
    const full = new MultiHeadAttention({ dim: 8, heads: 4, kvHeads: 2, seed: 5 });
    const layer = new MobaAttention({ dim: 8, heads: 4, kvHeads: 2, blockSize: 4, topK: 2 });
    layer.loadStateDict(await full.stateDict());
    const x = tf.randomNormal([2, 8, 8], 0, 1, 'float32', 3);
    const [wanted, given] = [full.forward(x), layer.forward(x)];
    const distance = tidy(() => tf.max(tf.abs(tf.sub(wanted.output, given.output))));
    expect((await distance.data())[0]).toBeLessThan(1e-5);
    disposeState(wanted.state);
    disposeState(given.state);
    tf.dispose([x, wanted.output, given.output, distance]);
    full.dispose();
    layer.dispose();
  });
});
