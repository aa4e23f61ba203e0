import { disposeState, setupBackend } from '@seqloom/core';
import { relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { MemformerEncoder } from './encoder-layer.ts';
import { Memformer } from './layer.ts';
import { positionBuckets } from './position-buckets.ts';

it('buckets tell apart the past, coarser with distance, and take the future as one', () => {
  const length = 200;
  const buckets = positionBuckets(length);
  const of = (query: number, key: number): number => buckets[query * length + key]!;
  expect([of(0, 0), of(5, 0), of(15, 0), of(16, 0), of(199, 0)]).toEqual([0, 5, 15, 16, 31]);
  expect(of(40, 0)).toBe(of(41, 0));
  expect([of(0, 1), of(0, 150)]).toEqual([0, 0]);
});

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('slots stay on the unit sphere, whatever is written', async () => {
    const layer = new Memformer({ dim: 8, heads: 2, slots: 3, segmentLength: 4 });
    const x = tf.randomNormal([2, 12, 8], 0, 5, 'float32', 5);
    const { output, state } = layer.forward(x);
    const size = tf.tidy(() => tf.norm(state.memory!, 2, 2));
    for (const value of await size.data()) expect(value).toBeCloseTo(1, 4);
    disposeState(state);
    tf.dispose([x, output, size]);
    layer.dispose();
  });

  it('a segment is read by the segments after it, and not by itself', async () => {
    const layer = new Memformer({ dim: 8, heads: 2, slots: 3, segmentLength: 4 });
    const x = tf.randomNormal([1, 8, 8], 0, 1, 'float32', 5);
    const reach = async (token: number): Promise<number[]> => {
      const gradient = tf.tidy(() => {
        const of = (input: tf.Tensor): tf.Tensor => tf.sum(tf.slice(layer.forward(input).output, [0, token, 0], [1, 1, 8]));
        return tf.sum(tf.abs(tf.grad(of)(x)), 2);
      });
      const values = [...(await gradient.data())];
      gradient.dispose();
      return values.map((value) => (value > 0 ? 1 : 0));
    };
    expect(await reach(3)).toEqual([0, 0, 0, 1, 0, 0, 0, 0]);
    expect(await reach(4)).toEqual([1, 1, 1, 1, 1, 0, 0, 0]);
    x.dispose();
    layer.dispose();
  });

  it('the encoder carries its memory from call to call as from segment to segment', async () => {
    const layer = new MemformerEncoder({ dim: 8, heads: 2, slots: 3, segmentLength: 4, depth: 2, writer: 'gated' });
    const x = tf.randomNormal([1, 8, 8], 0, 1, 'float32', 5);
    const [first, second] = [tf.slice(x, [0, 0, 0], [1, 4, 8]), tf.slice(x, [0, 4, 0], [1, 4, 8])];
    const whole = layer.forward(x);
    const a = layer.forward(first);
    const b = layer.forward(second, { state: a.state });
    const joined = tf.concat([a.output, b.output], 1);
    expect(relativeError64(await joined.data(), await whole.output.data())).toBeLessThan(1e-5);
    for (const { state } of [whole, a, b]) disposeState(state);
    tf.dispose([x, first, second, whole.output, a.output, b.output, joined]);
    layer.dispose();
  });
});
