import { setupBackend, tidy } from '@seqloom/core';
import type { Linear } from '@seqloom/core';
import { relativeError64, uniform64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { card } from './card.ts';
import { lightningDecayRates } from './decay-rates.ts';
import { LightningAttention } from './layer.ts';
import { naiveLightningAttention } from './naive.ts';

const near = (given: readonly number[], wanted: readonly number[]): void => {
  expect(relativeError64(given, wanted)).toBeLessThan(1e-12);
};

describe('decay rates', () => {
  it('minimax and transnormer take the slopes of ALiBi down the layers', () => {
    near(
      lightningDecayRates({ heads: 4, layer: 1, layers: 3 }),
      [0.25, 0.0625, 2 ** -6, 2 ** -8].map((base) => base * (1 - 1 / 2.00001 + 1e-5)),
    );
    near(
      lightningDecayRates({ heads: 4, layer: 2, layers: 3, schedule: 'transnormer' }),
      [0.25, 0.0625, 2 ** -6, 2 ** -8].map((base) => base * 1e-5),
    );
  });

  it('six heads have the slopes of four, then every second one of eight', () => {
    near(
      lightningDecayRates({ heads: 6 }),
      [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3].map((base) => base * (1 + 1e-5)),
    );
  });

  it('linear: in steps of 8 / H from a head that never forgets', () => {
    near(lightningDecayRates({ heads: 4, layer: 1, layers: 2, schedule: 'linear' }), [0, 1, 2, 3]);
  });

  it('fall with the head and with the layer, and one layer alone is no division by zero', () => {
    for (const schedule of ['minimax', 'transnormer'] as const) {
      const table = [0, 1, 2, 3].map((layer) => lightningDecayRates({ heads: 8, layer, layers: 4, schedule }));
      for (const [layer, rates] of table.entries()) {
        for (const [h, rate] of rates.entries()) {
          expect(rate).toBeGreaterThan(0);
          if (h > 0) expect(rate).toBeLessThan(rates[h - 1]!);
          if (layer > 0) expect(rate).toBeLessThan(table[layer - 1]![h]!);
        }
      }
      near(
        lightningDecayRates({ heads: 2, schedule }),
        [2 ** -4, 2 ** -8].map((base) => base * (1 + 1e-5)),
      );
    }
    expect(() => lightningDecayRates({ heads: 2, layer: 3, layers: 3 })).toThrow(/layer/);
  });
});

describe.each(['cpu', 'wasm'] as const)('the layer on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  const [batch, length, dim, heads, width] = [2, 9, 8, 2, 4];
  const product = async (x: ArrayLike<number>, linear: Linear): Promise<Float64Array> => {
    const weight = await linear.weight.value.data();
    const [into, out] = linear.weight.shape as [number, number];
    const rows = x.length / into;
    const y = new Float64Array(rows * out);
    for (let r = 0; r < rows; r++)
      for (let i = 0; i < into; i++) for (let o = 0; o < out; o++) y[r * out + o]! += x[r * into + i]! * weight[i * out + o]!;
    return y;
  };
  const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z));
  const silu = (z: Float64Array): Float64Array => z.map((value) => value * sigmoid(value));

  it.each(['minimax', 'transnormer'] as const)('%s gives what its equations give in double precision', async (variant) => {
    const layer = new LightningAttention({ dim, heads, variant, layer: 1, layers: 4, seed: 5 });
    const x = uniform64([batch, length, dim], 7, -2, 2);
    const [q, k, v, gate] = await Promise.all([layer.query, layer.key, layer.value, layer.gate].map((linear) => product(x.data, linear)));
    const shape = [batch, length, heads, width];
    const { output: o } = naiveLightningAttention(
      {
        query: { shape, data: silu(q!) },
        key: { shape, data: silu(k!) },
        value: { shape, data: variant === 'minimax' ? silu(v!) : v! },
      },
      { decayRates: lightningDecayRates({ heads, layer: 1, layers: 4, schedule: variant }), scale: 1, noncausal: false },
    );
    const gated = o.data.map((value, i) => {
      const row = o.data.subarray(i - (i % dim), i - (i % dim) + dim);
      const square = row.reduce((sum, channel) => sum + channel * channel, 0) / dim;
      return (value / Math.sqrt(square + 1e-6)) * (variant === 'minimax' ? sigmoid(gate![i]!) : gate![i]!);
    });
    const wanted = await product(gated, layer.output);
    const given = tidy(() => layer.forward(tf.tensor3d(Float32Array.from(x.data), [batch, length, dim])).output);
    expect(relativeError64(await given.data(), wanted)).toBeLessThan(2e-6);
    given.dispose();
    layer.dispose();
  });

  it('relative positions give scores of q k cos((n - m) theta), far from the first token too', async () => {
    const layer = new LightningAttention({ dim, heads, variant: 'transnormer', relativePositions: true, layer: 1, layers: 4, seed: 5 });
    const x = uniform64([batch, length, dim], 7, -2, 2);
    const [q, k, v, gate] = await Promise.all([layer.query, layer.key, layer.value, layer.gate].map((linear) => product(x.data, linear)));
    const [query, key] = [silu(q!), silu(k!)];
    const rates = lightningDecayRates({ heads, layer: 1, layers: 4, schedule: 'transnormer' });
    const o = new Float64Array(batch * length * dim);
    for (let b = 0; b < batch; b++)
      for (let n = 0; n < length; n++)
        for (let h = 0; h < heads; h++)
          for (let m = 0; m <= n; m++) {
            let score = 0;
            for (let j = 0; j < width; j++) {
              const c = h * width + j;
              const theta = 10000 ** ((-2 * c) / dim);
              score += query[(b * length + n) * dim + c]! * key[(b * length + m) * dim + c]! * Math.cos((n - m) * theta);
            }
            score *= Math.exp(-rates[h]! * (n - m));
            for (let j = 0; j < width; j++)
              o[(b * length + n) * dim + h * width + j]! += score * v![(b * length + m) * dim + h * width + j]!;
          }
    const gated = o.map((value, i) => {
      const square = o.subarray(i - (i % dim), i - (i % dim) + dim).reduce((sum, channel) => sum + channel * channel, 0) / dim;
      return (value / Math.sqrt(square + 1e-6)) * gate![i]!;
    });
    const wanted = await product(gated, layer.output);
    for (const position of [0, 100_003]) {
      const given = tidy(() => {
        const state = { ...layer.initialState(batch), position: tf.fill([batch], position) };
        return layer.forward(tf.tensor3d(Float32Array.from(x.data), [batch, length, dim]), { state }).output;
      });
      expect(relativeError64(await given.data(), wanted)).toBeLessThan(position === 0 ? 2e-6 : 1e-5);
      given.dispose();
    }
    layer.dispose();
  });

  it('parameters and state are as many as the budget says', () => {
    const count = (variant: 'minimax' | 'transnormer'): number => {
      const layer = new LightningAttention({ dim: 64, heads: 4, variant });
      expect(layer.stateBytes(1, 1000)).toBe(card.stateBytes(1000, { heads: 4, headDim: 16 }));
      const size = [...layer.namedParameters()].reduce((sum, [, parameter]) => sum + parameter.size, 0);
      layer.dispose();
      return size;
    };
    expect(count('minimax')).toBe(5 * 64 ** 2 + 64);
    expect(count('transnormer')).toBe(5 * 64 ** 2);
    const first = new LightningAttention({ dim: 64, heads: 4, variant: 'transnormer', relativePositions: true });
    expect(first.countParameters()).toBe(5 * 64 ** 2 + 64);
    expect(first.stateBytes(1, 1000)).toBe(4 * (2 * 4 * 16 * 16 + 1));
    first.dispose();
  });
});
