import { disposeState, setupBackend, tidy } from '@seqloom/core';
import { readGolden } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { cachedLandmarkAttention, emptyLandmarkState, insertLandmarks, landmarkAttention, LandmarkAttention } from './index.ts';

describe.each(['cpu', 'wasm'] as const)('landmark attention on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it.each(['tiny', 'state'])(
    'has the weights of the original, whose rows sum to 1 and whose landmarks have none, case %s',
    async (name) => {
      const golden = readGolden(new URL(`../../golden/landmark-attention/landmark-grouped-softmax/${name}.safetensors`, import.meta.url));
      const [query, key] = ['q', 'k'].map((input) => {
        const { data, shape } = golden.inputs[input]!;
        return tidy(() => tf.transpose(tf.tensor(data, [...shape]), [0, 2, 1, 3]));
      }) as [tf.Tensor, tf.Tensor];
      const [batch, length, heads] = key.shape as [number, number, number];
      // values that are rows of an identity make outputs of weights
      const value = tidy(() => tf.add(tf.reshape(tf.eye(length), [1, length, 1, length]), tf.zeros([batch, length, heads, length])));
      const blockLength = (golden.config['mem_freq'] as number) + 1;
      const output = tidy(() => tf.transpose(landmarkAttention({ query, key, value }, { blockLength }).output, [0, 2, 1, 3]));
      const [given, wanted] = [await output.data(), golden.outputs['probs']!.data];
      let worst = 0;
      for (let row = 0; row < given.length; row += length) {
        let sum = 0;
        for (let j = 0; j < length; j++) {
          worst = Math.max(worst, Math.abs(given[row + j]! - wanted[row + j]!));
          sum += given[row + j]!;
          if ((j + 1) % blockLength === 0) expect(given[row + j]).toBe(0);
        }
        expect(sum).toBeCloseTo(1, 5);
      }
      expect(worst).toBeLessThan(1e-6);
      tf.dispose([query, key, value, output]);
    },
  );

  it('never reads the values of blocks that are not retrieved', async () => {
    // three blocks of four; the landmark of the second is the worse one
    const key = tf.tensor(
      Array.from({ length: 12 }, (_, t) => (t === 7 ? -1 : 1)),
      [1, 12, 1, 1],
    );
    const value = tf.tensor(
      Array.from({ length: 12 }, (_, t) => (t >= 4 && t < 8 ? NaN : t)),
      [1, 12, 1, 1],
    );
    const query = tf.ones([1, 12, 1, 1]);
    const options = { blockLength: 4, retrieved: 1 };
    const output = landmarkAttention({ query, key, value }, options).output;
    const data = await output.data();
    expect([...data.subarray(8)].every(Number.isFinite)).toBe(true);
    const last = tidy(() => {
      const piece = (from: number, count: number) => {
        const cut = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, from, 0, 0], [1, count, 1, 1]);
        return { query: cut(query), key: cut(key), value: cut(value) };
      };
      const before = cachedLandmarkAttention(piece(0, 11), emptyLandmarkState({ batch: 1, heads: 1, headDim: 1 }), options);
      return cachedLandmarkAttention(piece(11, 1), before.state, options).output;
    });
    expect((await last.data())[0]).toBeCloseTo(data[11]!, 4);
    tf.dispose([query, key, value, output, last]);
  });

  it('attends to all blocks while training, and retrieves otherwise', async () => {
    const config = { dim: 8, heads: 2, blockLength: 3, seed: 2 };
    const [all, some] = [new LandmarkAttention(config), new LandmarkAttention({ ...config, retrieved: 1, positions: 'stingy' })];
    const x = tf.randomNormal([1, 14, 8], 0, 1, 'float32', 5);
    const results = [all.forward(x), some.forward(x, { training: true }), some.forward(x)];
    const [wanted, training, inference] = await Promise.all(results.map(({ output }) => output.data()));
    expect([...training!]).toEqual([...wanted!]);
    expect(Math.max(...inference!.map((channel, i) => Math.abs(channel - wanted![i]!)))).toBeGreaterThan(1e-3);
    for (const { output, state } of results) {
      output.dispose();
      disposeState(state);
    }
    x.dispose();
    all.dispose();
    some.dispose();
  });
});

describe('insertLandmarks', () => {
  it('puts a landmark at the end of every block', () => {
    expect(insertLandmarks([1, 2, 3, 4, 5], { blockLength: 3, landmark: 9 })).toEqual([1, 2, 9, 3, 4, 9, 5]);
    expect(insertLandmarks([], { blockLength: 3, landmark: 9 })).toEqual([]);
  });
});
