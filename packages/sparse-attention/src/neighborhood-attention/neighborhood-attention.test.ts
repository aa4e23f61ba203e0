import { setupBackend } from '@seqloom/core';
import { checkKernelParity, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeEach, describe, expect, it } from 'vitest';
import { axisRange, neighborhoodAxes } from './axes.ts';
import { GridNeighborhoodAttention } from './grid-layer.ts';
import { naiveNeighborhoodAttention, naiveSees } from './naive.ts';
import { neighborhoodAttention } from './neighborhood-attention.ts';
import type { NeighborhoodInputs, NeighborhoodOptions } from './neighborhood-attention.ts';
import { tilePlan } from './tiles.ts';

const axis = { window: 3, dilation: 1, stride: 1, causal: false };
const heads = (grid: number[], seed: number): Record<string, Array64> => ({
  query: uniform64([1, ...grid, 2, 2], seed),
  key: uniform64([1, ...grid, 1, 2], seed + 1),
  value: uniform64([1, ...grid, 1, 2], seed + 2),
});

describe('the rule of one axis', () => {
  it('is that of the specification for every setting', () => {
    for (const window of [1, 2, 3, 4, 7])
      for (const dilation of [1, 2, 3])
        for (let stride = 1; stride <= window; stride++)
          for (const causal of [false, true])
            for (const length of [1, 5, 13, 22]) {
              const settings = { window, dilation, stride, causal };
              for (let i = 0; i < length; i++) {
                const { residue, start, end } = axisRange(settings, length, i);
                const seen = Array.from({ length: end - start }, (_, r) => residue + dilation * (start + r));
                const wanted = Array.from({ length }, (_, j) => j).filter((j) => naiveSees(settings, length, i, j));
                expect(seen, JSON.stringify({ ...settings, length, i })).toEqual(wanted);
              }
            }
  });

  it('moves windows inward at borders, and even windows lean left', () => {
    const seen = (window: number, i: number): number[] => {
      const { start, end } = axisRange({ ...axis, window }, 10, i);
      return Array.from({ length: end - start }, (_, r) => start + r);
    };
    expect(seen(5, 0)).toEqual([0, 1, 2, 3, 4]);
    expect(seen(5, 5)).toEqual([3, 4, 5, 6, 7]);
    expect(seen(5, 9)).toEqual([5, 6, 7, 8, 9]);
    expect(seen(4, 5)).toEqual([3, 4, 5, 6]);
  });
});

describe('tiles', () => {
  it('hold every token once at least, and see what the rule says', () => {
    const axes = neighborhoodAxes('test', 2, { window: [4, 3], dilation: [1, 2], stride: [2, 1], causal: [true, false] }, '');
    const plan = tilePlan([9, 11], axes);
    expect(new Set(plan.queryRows).size).toBe(99);
    for (let slot = 0; slot < plan.queryRows.length; slot++) {
      const query = plan.queryRows[slot]!;
      const tile = Math.floor(slot / plan.queries);
      const seen = new Set<number>();
      for (let k = 0; k < plan.keys; k++) if (plan.seen[slot * plan.keys + k]) seen.add(plan.keyRows[tile * plan.keys + k]!);
      const sees = (key: number): boolean =>
        naiveSees(axes[0]!, 9, Math.floor(query / 11), Math.floor(key / 11)) && naiveSees(axes[1]!, 11, query % 11, key % 11);
      const wanted = Array.from({ length: 99 }, (_, key) => key).filter(sees);
      expect([...seen].toSorted((a, b) => a - b)).toEqual(wanted);
    }
  });

  it('cost the same per token whatever the length', () => {
    const work = (length: number, settings: NeighborhoodOptions): number => {
      const { tiles, queries, keys } = tilePlan([length, length], neighborhoodAxes('test', 2, settings, ''));
      return (tiles * queries * keys) / length ** 2;
    };
    for (const settings of [{ window: 7 }, { window: 7, dilation: 4 }, { window: 8, stride: 8 }]) {
      expect(work(128, settings)).toBeLessThanOrEqual(1.15 * work(64, settings));
      // pairs computed per pair wanted
      expect(work(128, settings) / settings.window ** 2).toBeLessThan(2.5);
    }
    // blocks waste nothing
    expect(work(64, { window: 8, stride: 8 })).toBe(64);
  });
});

describe.each(['cpu', 'wasm'] as const)('neighborhood attention on %s', (backend) => {
  beforeEach(async () => {
    await setupBackend(backend);
  });

  const grids: [string, number[], NeighborhoodOptions][] = [
    ['volumes', [2, 4, 5], { window: [2, 3, 3], dilation: [1, 1, 2], stride: [1, 3, 1], causal: [true, false, false] }],
    ['images that are causal along both axes', [4, 5], { window: 3, causal: true, stride: 2 }],
    ['even windows', [3, 5], { window: [2, 4] }],
  ];
  it.each(grids)('%s equal the specification, gradients too', async (_, grid, options) => {
    const axes = neighborhoodAxes('test', grid.length, options, '');
    for (const form of ['gathered', 'parallel'] as const)
      await checkKernelParity(backend, {
        inputs: heads(grid, 5),
        run: (given) => ({
          output: tf.tidy(() => neighborhoodAttention(given as unknown as NeighborhoodInputs, { ...options, form }).output),
        }),
        oracle: (given) => naiveNeighborhoodAttention(given as unknown as Parameters<typeof naiveNeighborhoodAttention>[0], axes) as never,
        differentiate: ['query', 'key', 'value'],
      });
  });

  it.each([{ window: 4 }, { window: 5, dilation: 3 }, { window: 4, stride: 3 }, { window: 3, dilation: 2, stride: 2 }])(
    'rows with lengths of their own equal each row alone: %j',
    async (options) => {
      const lengths = [43, 20, 5, 1];
      const [query, key, value] = [1, 2, 3].map((seed) => tf.tensor(Float32Array.from(uniform64([4, 43, 2, 4], seed).data), [4, 43, 2, 4]));
      const given = { query: query!, key: key!, value: value! };
      const all = tf.tidy(() => neighborhoodAttention(given, { ...options, lengths: tf.tensor1d(lengths) }));
      for (const [row, length] of lengths.entries()) {
        const cut = (x: tf.Tensor): tf.Tensor => tf.slice(x, [row, 0, 0, 0], [1, length, 2, 4]);
        const alone = tf.tidy(() =>
          neighborhoodAttention({ query: cut(given.query), key: cut(given.key), value: cut(given.value) }, options),
        );
        const own = tf.tidy(() => ({ output: cut(all.output), logSumExp: tf.slice(all.logSumExp, [row, 0, 0], [1, length, 2]) }));
        for (const name of ['output', 'logSumExp'] as const)
          expect(relativeError64(await own[name].data(), await alone[name].data()), `${name} of row ${row}`).toBeLessThan(1e-5);
        tf.dispose([alone, own]);
      }
      tf.dispose([given, all]);
    },
  );

  it('a dilated window never leaves its residue class', () => {
    const x = (changed: number | null): Float32Array =>
      Float32Array.from(uniform64([1, 12, 1, 4], 1).data, (v, i) => (Math.floor(i / 4) === changed ? v + 1 : v));
    const run = (changed: number | null): Float32Array[] =>
      tf.tidy(() => {
        const heads = tf.tensor(x(changed), [1, 12, 1, 4]);
        const { output } = neighborhoodAttention({ query: heads, key: heads, value: heads }, { window: 3, dilation: 2 });
        const flat = output.dataSync() as Float32Array;
        return Array.from({ length: 12 }, (_, t) => flat.slice(4 * t, 4 * t + 4));
      });
    const base = run(null);
    // the window of token 1 moved inward, and so reaches token 5
    const reached = run(5).flatMap((row, t) => (row.every((v, i) => v === base[t]![i]) ? [] : [t]));
    expect(reached).toEqual([1, 3, 5, 7]);
  });

  it('the grid layer keeps its shape, equals its op, and trains every parameter', () => {
    const layer = new GridNeighborhoodAttention({ dim: 8, heads: 2, axes: 2, window: [3, 2], dilation: [1, 2], seed: 4 });
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const x = tf.tensor(Float32Array.from(uniform64([2, 5, 6, 8], 1).data), [2, 5, 6, 8]);
      const split = (flat: tf.Tensor): tf.Tensor => tf.reshape(flat, [2, 5, 6, 2, 4]);
      const [query, key, value] = [layer.query, layer.key, layer.value].map((linear) => split(linear.forward(x)));
      const { output } = neighborhoodAttention(
        { query: query!, key: key!, value: value! },
        { window: [3, 2], dilation: [1, 2], form: 'parallel' },
      );
      const wanted = layer.output.forward(tf.reshape(output, x.shape)).dataSync();
      expect(relativeError64(layer.forward(x).dataSync(), wanted)).toBeLessThan(1e-5);
      const variables = layer.parameters().map((parameter) => parameter.value as tf.Variable);
      const { grads } = tf.variableGrads(() => tf.sum(tf.square(layer.forward(x))) as tf.Scalar, variables);
      for (const [name, parameter] of layer.namedParameters()) {
        const size = tf.sum(tf.abs(grads[(parameter.value as tf.Variable).name]!)).dataSync()[0]!;
        // a softmax does not change when all its keys move by the same vector
        if (name === 'key.bias') expect(size).toBeLessThan(1e-3);
        else expect(size, name).toBeGreaterThan(1e-3);
      }
      expect(() => layer.forward(tf.zeros([2, 5, 8]))).toThrow('neighborhood-attention');
    });
    expect(tf.memory().numTensors).toBe(before);
    expect(() => new GridNeighborhoodAttention({ dim: 8, heads: 2, axes: 3, window: [3, 3] })).toThrow('config.window');
    layer.dispose();
  });
});
