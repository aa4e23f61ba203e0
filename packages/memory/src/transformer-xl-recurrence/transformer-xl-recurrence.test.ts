import { disposeState, setupBackend, valueAndGradients } from '@seqloom/core';
import { relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { distanceEmbedding } from './distance-embedding.ts';
import { TransformerXlRecurrence } from './layer.ts';
import type { TransformerXlRecurrenceConfig } from './layer.ts';

const build = (extra: Partial<TransformerXlRecurrenceConfig> = {}): TransformerXlRecurrence =>
  new TransformerXlRecurrence({ dim: 8, heads: 2, memoryLength: 4, seed: 3, ...extra });

const run = async (layer: TransformerXlRecurrence, x: tf.Tensor): Promise<Float32Array> => {
  const { output, state } = layer.forward(x);
  const values = (await output.data()) as Float32Array;
  output.dispose();
  disposeState(state);
  return values;
};

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('distances run from the largest to 0, sines first, and are clamped', async () => {
    const table = distanceEmbedding(4, 4, 2);
    const values = await table.data();
    expect([...values.slice(12)]).toEqual([0, 0, 1, 1]);
    expect(values[8]).toBeCloseTo(Math.sin(1), 6);
    expect(values[9]).toBeCloseTo(Math.sin(0.01), 6);
    expect(values[4]).toBeCloseTo(Math.sin(2), 6);
    expect([...values.slice(0, 4)]).toEqual([...values.slice(4, 8)]);
    table.dispose();
  });

  it('a memory as long as the sequence gives what one segment of the whole length gives', async () => {
    const x = tf.randomNormal([2, 12, 8], 0, 1, 'float32', 5);
    const [long, whole] = [build({ memoryLength: 12, segmentLength: 3 }), build({ memoryLength: 0, segmentLength: 12 })];
    expect(relativeError64(await run(long, x), await run(whole, x))).toBeLessThan(1e-5);
    x.dispose();
    long.dispose();
    whole.dispose();
  });

  it('within a segment a token sees the memory before the segment; without segments it sees as many tokens as any other', async () => {
    for (const [segmentLength, reached] of [
      [4, true],
      [null, false],
    ] as const) {
      const layer = build({ memoryLength: 2, segmentLength });
      const x = tf.randomNormal([1, 8, 8], 0, 1, 'float32', 5);
      const gradient = tf.tidy(() => tf.grad((input: tf.Tensor) => tf.sum(tf.slice(layer.forward(input).output, [0, 7, 0], [1, 1, 8])))(x));
      const size = tf.tidy(() => tf.sum(tf.abs(gradient), 2));
      const values = await size.data();
      // the last token: tokens 2 and 3 are the memory of the second segment
      expect(values[1]).toBe(0);
      expect(values[2]! > 0).toBe(reached);
      expect(values[5]! > 0).toBe(true);
      tf.dispose([x, gradient, size]);
      layer.dispose();
    }
  });

  it('detachMemory stops gradients at the memory and changes no number', async () => {
    const [x, next] = [tf.randomNormal([1, 5, 8], 0, 1, 'float32', 5), tf.randomNormal([1, 3, 8], 0, 1, 'float32', 6)];
    const outputs: Float32Array[] = [];
    for (const detachMemory of [false, true]) {
      const layer = build({ detachMemory });
      const second = (input: tf.Tensor): tf.Tensor => layer.forward(next, { state: layer.forward(input).state }).output;
      const output = tf.tidy(() => second(x));
      outputs.push((await output.data()) as Float32Array);
      const { value, gradients } = valueAndGradients(() => tf.sum(second(x)), [x]);
      const gradient = gradients[0] ?? null;
      if (detachMemory) expect(gradient).toBeNull();
      else expect(Math.max(...(await gradient!.data()).map(Math.abs))).toBeGreaterThan(0);
      tf.dispose([output, value, gradient ?? []]);
      layer.dispose();
    }
    expect(outputs[0]).toEqual(outputs[1]);
    tf.dispose([x, next]);
  });
});
