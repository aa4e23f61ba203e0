import { adamWStep, setupBackend, tidy, valueAndGradients } from '@seqloom/core';
import { countCost, expectNoLeak, leakFault, countTensors, gradientFaults, relativeError64 } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { MemoryLayer } from './layer.ts';
import type { MemoryLayerConfig } from './layer.ts';
import { MemoryTable } from './memory-table.ts';
import { SparseAdamW } from './sparse-adamw.ts';

const config: MemoryLayerConfig = { dim: 4, heads: 2, halfKeys: 5, topK: 3, seed: 3 };
const input = (shape: [number, number, number], seed = 5): tf.Tensor3D => tf.randomNormal(shape, 0, 1, 'float32', seed);

describe.each(['cpu', 'wasm'] as const)('on %s', (backend) => {
  beforeAll(async () => {
    await setupBackend(backend);
  });

  it('law 4 and 6: a token sees itself alone, so order, other rows and padding change nothing', async () => {
    const layer = new MemoryLayer({ ...config, queryKeyNorm: true });
    const x = input([2, 5, 4]);
    const whole = layer.forward(x);
    const turned = tidy(() => tf.reverse(layer.forward(tf.reverse(x, [0, 1]) as tf.Tensor3D), [0, 1]));
    const alone = tidy(() => layer.forward(tf.slice(x, [1, 2, 0], [1, 1, 4]) as tf.Tensor3D));
    expect(relativeError64(await turned.data(), await whole.data())).toBeLessThan(1e-6);
    const values = await whole.data();
    expect(relativeError64(await alone.data(), values.slice(28, 32))).toBeLessThan(1e-6);
    const junk = tidy(() => layer.forward(tf.concat([x, tf.fill([2, 1, 4], 1e30)], 1) as tf.Tensor3D));
    const kept = tidy(() => tf.slice(junk, [0, 0, 0], [2, 5, 4]));
    expect(relativeError64(await kept.data(), values)).toBeLessThan(1e-6);
    tf.dispose([x, whole, turned, alone, junk, kept]);
    layer.dispose();
  });

  it.each([
    ['gated', {}],
    ['plain with another width and norms', { gated: false, valueDim: 3, queryKeyNorm: true }],
  ] as const)('law 5: gradients of a dense layer equal finite differences, %s', async (_name, changes) => {
    const layer = new MemoryLayer({ ...config, ...changes, sparse: false });
    const x = input([1, 4, 4]);
    const movables = [
      { label: 'x', tensor: x, parameter: false },
      ...[...layer.namedParameters()].map(([label, { value }]) => ({ label, tensor: value, parameter: true })),
    ];
    // the choice of slots has jumps
    const faults = await gradientFaults((swap) => [layer.forward(swap(x) as tf.Tensor3D)], movables, { step: 1e-3 });
    expect(faults.filter((fault) => fault !== null)).toEqual([]);
    x.dispose();
    layer.dispose();
  });

  it('law 8: nothing leaks, also not the gradients that wait', async () => {
    await expectNoLeak(() => {
      const layer = new MemoryLayer(config);
      const x = input([1, 4, 4]);
      const before = countTensors();
      layer.forward(x).dispose();
      expect(leakFault(before, 'forward')).toBeNull();
      const { value, gradients } = valueAndGradients(() => tf.sum(layer.forward(x)), [layer.query.weight.value]);
      expect(layer.table.pending).toBe(1);
      tf.dispose([value, gradients[0]!]);
      layer.table.discard();
      expect(leakFault(before, 'backward')).toBeNull();
      x.dispose();
      layer.dispose();
    }, 'a layer');
  });

  it('the other parameters have the same gradients beside a sparse table and a dense one', async () => {
    const [sparse, dense] = [new MemoryLayer(config), new MemoryLayer({ ...config, sparse: false })];
    const x = input([2, 3, 4]);
    const gradientsOf = (layer: MemoryLayer): (tf.Tensor | null)[] => {
      const by = [layer.query.weight, layer.keys, layer.gate!.weight, layer.output!.weight].map(({ value }) => value);
      const { value, gradients } = valueAndGradients(() => tf.sum(tf.square(layer.forward(x))), by);
      value.dispose();
      return gradients;
    };
    const [ours, theirs] = [gradientsOf(sparse), gradientsOf(dense)];
    for (const [i, gradient] of ours.entries()) {
      expect(relativeError64(await gradient!.data(), await theirs[i]!.data())).toBeLessThan(1e-6);
    }
    tf.dispose([x, ...ours, ...theirs] as tf.Tensor[]);
    sparse.dispose();
    dense.dispose();
  });

  it('sparse steps with every row touched are AdamW, repeated slots and accumulated passes included', async () => {
    const tensors = tf.memory().numTensors;
    const table = new MemoryTable({ halfKeys: 2, dim: 3, seed: 4 });
    const settings = { learningRate: 0.1, beta1: 0.8, beta2: 0.9, epsilon: 1e-6, weightDecay: 0.2 };
    const optimiser = new SparseAdamW(table, settings);
    const indices = tf.tensor2d([0, 1, 2, 3, 3, 3], [2, 3], 'int32');
    // a copy that the writing in place does not reach
    const start = tf.tensor2d(Float32Array.from(await table.values.value.data()), [4, 3]);
    let reference: Record<'parameter' | 'firstMoment' | 'secondMoment', tf.Tensor> = {
      parameter: start,
      firstMoment: tf.zeros([4, 3]),
      secondMoment: tf.zeros([4, 3]),
    };
    for (let step = 1; step <= 4; step++) {
      const weights = tf.randomUniform([2, 3], 0.1, 1, 'float32', step);
      const target = tf.randomNormal([2, 3], 0, 1, 'float32', 10 + step);
      const loss = (read: tf.Tensor): tf.Tensor => tf.sum(tf.square(tf.sub(read, target)));
      for (let pass = 0; pass < 2; pass++)
        tidy(() => tf.grad((w: tf.Tensor) => loss(table.lookUp({ indices, weights: w as tf.Tensor2D })))(weights)).dispose();
      const gradient = tidy(() => {
        const bag = (values: tf.Tensor): tf.Tensor => {
          const rows = tf.reshape(tf.gatherND(values, tf.reshape(indices, [6, 1])), [2, 3, 3]);
          return loss(tf.sum(tf.mul(rows, tf.reshape(weights, [2, 3, 1])), 1));
        };
        return tf.grad(bag)(reference.parameter);
      });
      // two passes and half of each
      expect(await optimiser.step({ gradientScale: 0.5 })).toEqual({ rows: 4, inPlace: true });
      const next = tidy(() => adamWStep({ ...reference, gradient }, { ...settings, step, gradientScale: 1 }));
      tf.dispose([reference, gradient, weights, target]);
      reference = next;
      expect(relativeError64(await table.values.value.data(), await reference.parameter.data())).toBeLessThan(1e-5);
    }
    tf.dispose([reference, indices]);
    table.dispose();
    expect(tf.memory().numTensors).toBe(tensors);
  });

  it('rows that were not read, and their moments, stay to the bit', async () => {
    const table = new MemoryTable({ halfKeys: 3, dim: 2, seed: 4 });
    const before = Float32Array.from(await table.values.value.data());
    const optimiser = new SparseAdamW(table);
    const indices = tf.tensor2d([7, 2], [1, 2], 'int32');
    const weights = tf.tensor2d([[1, 2]]);
    tidy(() => tf.grad((w: tf.Tensor) => tf.sum(table.lookUp({ indices, weights: w as tf.Tensor2D })))(weights)).dispose();
    expect(await optimiser.step()).toEqual({ rows: 2, inPlace: true });
    const after = await table.values.value.data();
    const changed = Array.from({ length: 9 }, (_, row) => row).filter((row) => after[2 * row] !== before[2 * row]);
    expect(changed).toEqual([2, 7]);
    expect(await optimiser.step()).toEqual({ rows: 0, inPlace: true });
    tf.dispose([indices, weights]);
    table.dispose();
  });

  it('law 12: a training step costs the same at 2^10 and at 2^20 slots but for the half keys; a dense one costs the table', async () => {
    const lengths = [32, 1024];
    const peak = async (sparse: boolean): Promise<number[]> => {
      const points = await countCost(lengths, (halfKeys) => {
        const layer = new MemoryLayer({ dim: 4, heads: 1, halfKeys, topK: 4, sparse, seed: 3 });
        const x = input([1, 2, 4]);
        const by = sparse ? [layer.query.weight.value] : [layer.query.weight.value, layer.table.values.value];
        return {
          run: () => {
            const { value, gradients } = valueAndGradients(() => tf.sum(tf.square(layer.forward(x))), by);
            return [value, ...gradients] as tf.Tensor[];
          },
          dispose: () => {
            x.dispose();
            layer.dispose();
          },
        };
      });
      expect(points[0]!.kernels).toBe(points[1]!.kernels);
      return points.map(({ peakBytes }) => peakBytes);
    };
    const tableBytes = 4 * 4 * 1024 ** 2;
    const [sparse, dense] = [await peak(true), await peak(false)];
    // two lists of scores per token, and gradients of two lists of half keys
    expect(sparse[1]! - sparse[0]!).toBeLessThan(64 * 4 * 1024);
    expect(dense[1]!).toBeGreaterThan(tableBytes);
  });

  it('a sparse step updates at most the rows that were read, at 2^10 and at 2^20 slots', async () => {
    for (const halfKeys of [32, 1024]) {
      const layer = new MemoryLayer({ dim: 4, heads: 1, halfKeys, topK: 4, seed: 3 });
      const optimiser = new SparseAdamW(layer.table);
      const x = input([1, 2, 4]);
      const { value, gradients } = valueAndGradients(() => tf.sum(tf.square(layer.forward(x))), [layer.query.weight.value]);
      const before = tf.memory().numBytes;
      const { rows, inPlace } = await optimiser.step();
      expect(inPlace).toBe(true);
      expect(rows).toBeGreaterThan(0);
      expect(rows).toBeLessThanOrEqual(8);
      // what waited is freed, and nothing is made
      expect(tf.memory().numBytes).toBeLessThan(before);
      tf.dispose([x, value, gradients[0]!]);
      layer.dispose();
    }
  });
});

it('layers share a table, which is one parameter and frozen where it is sparse', () => {
  const table = new MemoryTable({ halfKeys: 5, dim: 4 });
  const first = new MemoryLayer(config, table);
  const second = new MemoryLayer({ ...config, seed: 8 }, table);
  expect(second.table).toBe(first.table);
  expect(table.values.trainable).toBe(false);
  expect(table.values.decay).toBe(false);
  for (const layer of [first, second]) for (const parameter of layer.parameters()) if (parameter !== table.values) parameter.dispose();
  table.dispose();
});

it('refuses what does not fit', () => {
  expect(() => new MemoryLayer({ ...config, topK: 6 })).toThrow('config.topK');
  expect(() => new MemoryLayer({ ...config, keyDim: 3 })).toThrow('config.keyDim');
  expect(() => new MemoryLayer({ ...config, halfKeys: 0 })).toThrow('config.halfKeys');
  const table = new MemoryTable({ halfKeys: 3, dim: 4, sparse: false });
  expect(() => new MemoryLayer(config, table)).toThrow('table');
  expect(() => new SparseAdamW(table)).toThrow('a dense table');
  table.dispose();
});
