import { Random, setupBackend, softmaxCrossEntropy, zeroState } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ByteTokeniser } from './data/byte-tokeniser.ts';
import { memoryStore } from './data/memory-store.ts';
import type { TokenStore } from './data/token-store.ts';
import { perplexity } from './perplexity.ts';
import type { LogitModel } from './recall/accuracy.ts';
import { ToyModel } from './toy-model.ts';

const [VOCABULARY, DIM] = [256, 8];
let toy: ToyModel;
let model: LogitModel;
let store: TokenStore;
let tokens: Int32Array;

beforeAll(async () => {
  await setupBackend('wasm');
  toy = new ToyModel({ vocabSize: VOCABULARY, dim: DIM, seed: 3 });
  // large enough to make the losses differ
  toy.head.weight.assign(tf.tidy(() => tf.mul(toy.head.weight.value, 60)));
  model = {
    forward: (ids, options = {}) => {
      const { output, state } = toy.block.forward(toy.embedding.forward(ids), options);
      const logits = toy.head.forward(tf.reshape(toy.norm.forward(output), [-1, DIM]));
      return { logits: tf.reshape(logits, [...ids.shape, VOCABULARY]), state };
    },
  };
  const random = new Random(1);
  const text = Array.from({ length: 101 }, () => String.fromCharCode(97 + random.below(26))).join('');
  store = await memoryStore(text, { tokeniser: new ByteTokeniser(), heldOut: 0.3 });
  tokens = await store.read(0, store.count);
});

afterAll(() => toy.dispose());

/** Losses of tokens 1, 2, ... of some tokens that are read at once, without a state. */
function atOnce(some: Int32Array): Float32Array {
  return tf.tidy(() => {
    const { logits } = model.forward(tf.tensor2d(some.subarray(0, -1), [1, some.length - 1], 'int32'));
    const rows = tf.reshape(logits, [-1, VOCABULARY]);
    return softmaxCrossEntropy({ logits: rows, labels: tf.tensor1d(some.subarray(1), 'int32') }).loss.dataSync() as Float32Array;
  });
}
const mean = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;

describe('perplexity', () => {
  it.each([1, 7, 64, 500])('carries the state through the text: pieces of %d give what one forward gives', async (piece) => {
    const before = tf.memory().numTensors;
    const found = await perplexity(model, store, { piece });
    const losses = atOnce(tokens);
    expect(found.tokens).toBe(100);
    expect(found.loss).toBeCloseTo(mean(losses), 5);
    expect(found.perplexity).toBeCloseTo(Math.exp(found.loss), 6);
    expect(found.bitsPerByte).toBeCloseTo(found.loss / Math.LN2, 6);
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each([
    [20, 10, 3, 8],
    [20, 20, 4, 20],
    [33, 1, 5, 7],
    [100, 50, 2, 64],
    [4000, 7, 2, 64],
  ])('with windows of %d and a stride of %d scores each token once, with its context', async (window, stride, rows, piece) => {
    const progress: number[] = [];
    const found = await perplexity(model, store, { window, stride, rows, piece, onProgress: (done) => progress.push(done) });
    const expected: number[] = [];
    for (let from = 0; expected.length < 100; from += stride) {
      const losses = atOnce(tokens.slice(from, from + Math.min(window, 100) + 1));
      expected.push(...losses.subarray(expected.length - from));
      if (window >= 100) break;
    }
    expect(found.tokens).toBe(100);
    expect(found.loss).toBeCloseTo(mean(expected), 4);
    expect(progress.at(-1)).toBe(100);
    expect(found.leastContext).toBe(window >= 100 ? 1 : window - stride + 1);
    expect(Math.max(...found.positions.map(({ to }) => to))).toBe(Math.min(window, 100));
  });

  it('groups the losses by context', async () => {
    const { positions } = await perplexity(model, store);
    const losses = atOnce(tokens);
    expect(positions.map(({ from, to }) => [from, to])).toEqual([
      [1, 1],
      [2, 2],
      [3, 4],
      [5, 5],
      [6, 8],
      [9, 11],
      [12, 16],
      [17, 22],
      [23, 32],
      [33, 45],
      [46, 64],
      [65, 90],
      [91, 100],
    ]);
    for (const { from, to, loss, tokens: count } of positions) {
      expect(count).toBe(to - from + 1);
      expect(loss).toBeCloseTo(mean(losses.subarray(from - 1, to)), 4);
    }
  });

  it('scores the held-out part, its first token too', async () => {
    const found = await perplexity(model, store, { part: 'held-out' });
    expect(found.tokens).toBe(store.count - store.trainCount);
    expect(found.loss).toBeCloseTo(mean(atOnce(tokens.slice(store.trainCount - 1))), 5);
  });

  it('gives ln V for a model that knows nothing, and stops when asked', async () => {
    const flat: LogitModel = { forward: (ids) => ({ logits: tf.zeros([...ids.shape, VOCABULARY]), state: zeroState(1, {}) }) };
    const found = await perplexity(flat, store, { window: 16 });
    expect(Math.abs(found.perplexity / VOCABULARY - 1)).toBeLessThan(1e-5);
    const controller = new AbortController();
    const part = await perplexity(flat, store, { piece: 10, signal: controller.signal, onProgress: () => controller.abort() });
    expect(part.tokens).toBe(10);
  });

  it('refuses what makes no sense', async () => {
    await expect(perplexity(model, store, { window: 0 })).rejects.toThrow('window');
    await expect(perplexity(model, store, { window: 10, stride: 11 })).rejects.toThrow('at most the window of 10');
    await expect(perplexity(model, store, { piece: 0.5 })).rejects.toThrow('piece');
    const short = await memoryStore('a', { tokeniser: new ByteTokeniser() });
    await expect(perplexity(model, short)).rejects.toThrow('at least two tokens');
  });
});
