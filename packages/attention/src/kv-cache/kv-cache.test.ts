import * as tf from '@tensorflow/tfjs-core';
import { SeqLoomError, loadState, saveState, setupBackend } from '@seqloom/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { alignedPositions, appendKv, emptyKvCache, existingKeys, kvBytes, snapshotKv, truncateKv, windowKv } from './kv-cache.ts';
import type { KvCache } from './kv-cache.ts';

/** Tokens [B, T, 1, 1] with these numbers; values are their negatives. */
function tokens(rows: number[][]): { key: tf.Tensor; value: tf.Tensor } {
  const key = tf.tensor4d(rows.map((row) => row.map((value) => [[value]])));
  return { key, value: tf.neg(key) };
}

function keys(cache: KvCache): number[][] {
  expect(Array.from(cache.value.dataSync(), (value) => 0 - value)).toEqual([...cache.key.dataSync()]);
  return (tf.tidy(() => tf.reshape(cache.key, [cache.key.shape[0]!, -1])) as tf.Tensor2D).arraySync();
}

describe.each(['cpu', 'wasm'] as const)('key-value cache on %s', (backend) => {
  let tensors = 0;
  beforeEach(async () => {
    await setupBackend(backend);
    tensors = tf.memory().numTensors;
    tf.engine().startScope();
  });
  afterEach(() => {
    tf.engine().endScope();
    expect(tf.memory().numTensors).toBe(tensors);
  });

  it('appends pieces behind one another, right aligned where rows differ in length', () => {
    const empty = emptyKvCache({ batch: 2, heads: 1, headDim: 1 });
    const first = appendKv(empty, {
      ...tokens([
        [1, 2, 3],
        [7, 99, 99],
      ]),
      lengths: tf.tensor1d([3, 1]),
    });
    expect(keys(first)).toEqual([
      [1, 2, 3],
      [0, 0, 7],
    ]);
    expect([...first.position.dataSync()]).toEqual([3, 1]);
    const second = appendKv(first, tokens([[4], [8]]));
    expect(keys(second)).toEqual([
      [1, 2, 3, 4],
      [0, 0, 7, 8],
    ]);
    const third = appendKv(second, { ...tokens([[99], [9]]), lengths: tf.tensor1d([0, 1]) });
    expect(keys(third)).toEqual([
      [0, 1, 2, 3, 4],
      [0, 0, 7, 8, 9],
    ]);
    expect(existingKeys(third.position, 5, 0, null).arraySync()).toEqual([
      [0, 1, 1, 1, 1],
      [0, 0, 1, 1, 1],
    ]);
    expect(alignedPositions(existingKeys(third.position, 5, 1, tf.tensor2d([[1], [0]]))).arraySync()).toEqual([
      [-1, 1, 2, 3, 4, 5],
      [-1, -1, 2, 3, 4, -1],
    ]);
    expect(kvBytes(third)).toBe(4 * (10 + 10 + 2));
  });

  it('keeps a window while appending, and cuts one out afterwards', () => {
    let cache: KvCache = emptyKvCache({ batch: 1, heads: 1, headDim: 1 });
    for (const value of [1, 2, 3, 4, 5]) cache = appendKv(cache, tokens([[value]]), 3);
    expect(keys(cache)).toEqual([[3, 4, 5]]);
    expect([...cache.position.dataSync()]).toEqual([5]);
    expect(keys(appendKv(cache, tokens([[6, 7]]), 3))).toEqual([[5, 6, 7]]);
    expect(keys(windowKv(cache, 2))).toEqual([[4, 5]]);
    expect(keys(windowKv(cache, 9))).toEqual([[3, 4, 5]]);
    expect(appendKv(cache, tokens([[6]]), 0).key.shape).toEqual([1, 0, 1, 1]);
  });

  it('goes back by truncating or by keeping the old one, and saves to bytes', async () => {
    const cache = appendKv(emptyKvCache({ batch: 1, heads: 1, headDim: 1 }), tokens([[1, 2, 3]]));
    const snapshot = snapshotKv(cache);
    const longer = appendKv(cache, tokens([[4, 5]]));
    tf.dispose(cache);
    expect(keys(snapshot)).toEqual([[1, 2, 3]]);
    const back = truncateKv(longer, 2);
    expect(keys(back)).toEqual([[1, 2, 3]]);
    expect([...back.position.dataSync()]).toEqual([3]);
    expect(keys(appendKv(back, tokens([[6]])))).toEqual([[1, 2, 3, 6]]);
    const loaded = loadState(await saveState(longer));
    expect(keys(loaded as unknown as KvCache)).toEqual([[1, 2, 3, 4, 5]]);
    tf.dispose(loaded as unknown as tf.TensorContainer);
  });

  it('refuses what does not fit', () => {
    const cache = emptyKvCache({ batch: 1, heads: 1, headDim: 1 });
    expect(() => appendKv(cache, tokens([[1], [2]]))).toThrow(/kv-cache: tokens.key must be \[1, T, 1, 1\]/);
    expect(() => truncateKv(cache, 1)).toThrow(SeqLoomError);
  });
});
