import { tidy } from '@seqloom/core';
import { goldenSuite, opLaws, opTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { gatheredForm } from './gathered.ts';
import { productKeyMemory } from './memory-layers-at-scale.ts';
import type { ProductKeyOptions } from './memory-layers-at-scale.ts';
import { MemoryTable } from './memory-table.ts';
import { naiveProductKeyMemory } from './naive.ts';

interface Size {
  readonly heads: number;
  readonly width: number;
  readonly halfKeys: number;
  readonly dim: number;
}

const BATCH = 2;
const SIZE: Size = { heads: 2, width: 4, halfKeys: 5, dim: 3 };

function arrays({ heads, width, halfKeys, dim }: Size, length: number, seed: number): Record<string, Array64> {
  return {
    query: uniform64([BATCH, length, heads, width], seed),
    keys: uniform64([heads, 2, halfKeys, width / 2], seed + 1),
    values: uniform64([halfKeys ** 2, dim], seed + 2),
  };
}

function naive({ heads, width, halfKeys, dim }: Size, given: Arrays64, options: Required<ProductKeyOptions>): Arrays64 {
  const { query, keys, values } = given as Record<string, Array64>;
  const rows = ({ data }: Array64, at: number, count: number, wide: number): Float64Array[] =>
    Array.from({ length: count }, (_, i) => data.slice(at + i * wide, at + (i + 1) * wide));
  const half = width / 2;
  const table = {
    keys: Array.from({ length: heads }, (_, h) => [0, 1].map((side) => rows(keys!, (2 * h + side) * halfKeys * half, halfKeys, half))),
    values: rows(values!, 0, halfKeys ** 2, dim),
  };
  const tokens = query!.shape[0]! * query!.shape[1]!;
  const outputs = Array.from({ length: tokens }, (_, t) => [
    ...naiveProductKeyMemory(rows(query!, t * heads * width, heads, width), table, options),
  ]);
  return { output: { shape: [query!.shape[0]!, query!.shape[1]!, dim], data: Float64Array.from(outputs.flat()) } };
}

const run = (inputs: OpTensors, options: ProductKeyOptions): Record<string, tf.Tensor> => ({
  output: productKeyMemory({ query: inputs.query!, keys: inputs.keys!, values: inputs.values! }, options).output,
});

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'the slots found by halves are those that a search through all keys finds, and the output is softmax attention to them',
    run: async () => {
      const error = tidy(() => {
        const query = tf.randomNormal([1, 3, 1, 4], 0, 1, 'float32', 1);
        const keys = tf.randomNormal([1, 2, 2, 2], 0, 1, 'float32', 2);
        const values = tf.randomNormal([4, 3], 0, 1, 'float32', 3);
        const { output } = productKeyMemory({ query, keys, values }, { topK: 2 });
        const [first, second] = tf.split(tf.reshape(keys, [2, 2, 2]), 2, 0) as [tf.Tensor, tf.Tensor];
        const left = tf.reshape(tf.add(tf.reshape(first, [2, 1, 2]), tf.zeros([2, 2, 2])), [4, 2]);
        const right = tf.reshape(tf.add(tf.reshape(second, [1, 2, 2]), tf.zeros([2, 2, 2])), [4, 2]);
        const scores = tf.matMul(tf.reshape(query, [3, 4]), tf.concat([left, right], 1), false, true) as tf.Tensor2D;
        const chosen = tf.topk(scores, 2);
        const kept = tf.sum(tf.cast(tf.oneHot(chosen.indices as tf.Tensor2D, 4), 'float32'), 1);
        const weights = tf.softmax(tf.add(scores, tf.mul(tf.sub(kept, 1), 1e9)));
        return tf.max(tf.abs(tf.sub(tf.reshape(output, [3, 3]), tf.matMul(weights, values))));
      });
      expect((await error.data())[0]).toBeLessThan(1e-6);
      error.dispose();
    },
  },
  {
    title: 'with one best slot the output is that slot, whatever its score',
    run: async () => {
      const inputs = Object.fromEntries(
        Object.entries(arrays({ ...SIZE, heads: 1 }, 4, 9)).map(([name, array]) => [name, opTensor(array)]),
      );
      const { output } = run(inputs, { topK: 1 });
      const [given, rows] = [await output!.data(), await inputs.values!.data()];
      for (let t = 0; t < 4 * BATCH; t++) {
        const row = given.slice(3 * t, 3 * t + 3);
        const found = Array.from({ length: 25 }, (_, slot) => relativeError64(row, rows.slice(3 * slot, 3 * slot + 3)));
        expect(Math.min(...found)).toBe(0);
      }
      tf.dispose([inputs, output!]);
    },
  },
  {
    title: 'two layers of one table add up their gradients in it',
    run: async () => {
      const table = new MemoryTable({ halfKeys: 3, dim: 2 });
      const indices = tf.tensor2d([[0, 4]], [1, 2], 'int32');
      const weights = tf.tensor2d([[0.25, 0.75]]);
      const [sparse, dense] = tidy(() => {
        const twice = (w: tf.Tensor): tf.Tensor => {
          const once = table.lookUp({ indices, weights: w as tf.Tensor2D });
          return tf.sum(tf.add(once, tf.square(table.lookUp({ indices, weights: w as tf.Tensor2D }))));
        };
        const direct = (w: tf.Tensor): tf.Tensor => {
          const once = gatheredForm({ indices, weights: w as tf.Tensor2D }, table.values.value);
          return tf.sum(tf.add(once, tf.square(once)));
        };
        return [tf.grad(twice)(weights), tf.grad(direct)(weights)];
      });
      expect(table.pending).toBe(2);
      expect(relativeError64(await sparse.data(), await dense.data())).toBeLessThan(1e-6);
      tf.dispose([sparse, dense, indices, weights]);
      table.dispose();
    },
  },
];

const zeros = (query: number[], keys: number[], values: number[], options: object): unknown =>
  tidy(() => productKeyMemory({ query: tf.zeros(query), keys: tf.zeros(keys), values: tf.zeros(values) }, { topK: 2, ...options }));

function subjectOf(name: string, size: Size, options: Required<ProductKeyOptions>): OpSubject {
  return {
    card,
    name,
    degenerate,
    inputs: (length, seed) => arrays(size, length, seed),
    gradients: ['query', 'keys', 'values'],
    lengths: [1, 7, 65],
    naive: (given) => naive(size, given, options),
    forms: { gathered: (inputs) => run(inputs, options) },
    hard: [
      {
        title: 'scores of 1e4',
        inputs: () => {
          const given = arrays(size, 9, 4);
          given['query']!.data.forEach((value, i, data) => (data[i] = Math.fround(1e4 * value)));
          return given;
        },
      },
    ],
    badInputs: [
      { title: 'a query of rank 3', argument: 'query', call: () => zeros([1, 2, 4], [1, 2, 3, 2], [9, 2], {}) },
      { title: 'keys of another width', argument: 'keys', call: () => zeros([1, 2, 1, 4], [1, 2, 3, 4], [9, 2], {}) },
      { title: 'values that are not n^2', argument: 'values', call: () => zeros([1, 2, 1, 4], [1, 2, 3, 2], [8, 2], {}) },
      { title: 'more best slots than half keys', argument: 'topK', call: () => zeros([1, 2, 1, 4], [1, 2, 3, 2], [9, 2], { topK: 4 }) },
      { title: 'unknown weights', argument: 'weighting', call: () => zeros([1, 2, 1, 4], [1, 2, 3, 2], [9, 2], { weighting: 'max' }) },
    ],
  };
}

opLaws(subjectOf('memory-layers-at-scale', SIZE, { topK: 3, weighting: 'softmax' }));
opLaws(
  subjectOf('memory-layers-at-scale, all half keys, relu', { heads: 1, width: 6, halfKeys: 4, dim: 2 }, { topK: 4, weighting: 'relu' }),
);

goldenSuite({
  op: 'product-key-memory',
  folder: new URL('../../golden/memory-layers-at-scale/product-key-memory/', import.meta.url),
  run: ({ inputs, parameters }, { config }) => {
    const norm = (x: tf.Tensor, name: string): tf.Tensor => {
      const weight = parameters[`${name}.weight`];
      if (!weight) return x;
      const centred = tf.sub(x, tf.mean(x, -1, true));
      const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), 1e-5));
      return tf.add(tf.mul(tf.mul(centred, scale), weight), parameters[`${name}.bias`]!);
    };
    const [heads, half] = [config['heads'] as number, config['dim_head'] as number];
    const [batch, length, dim] = inputs['x']!.shape as [number, number, number];
    const rows = tf.reshape(norm(inputs['x']!, 'pre_layernorm'), [batch * length, dim]) as tf.Tensor2D;
    const flat = tf.matMul(rows, tf.transpose(parameters['to_queries.weight']!) as tf.Tensor2D);
    // theirs stand half after half; tokens in one axis, because tfjs-webgpu broadcasts at most four
    const halves = norm(tf.reshape(flat, [batch * length, 2, heads, half]), 'norm');
    const query = tf.reshape(tf.transpose(halves, [0, 2, 1, 3]), [batch, length, heads, 2 * half]);
    const { output } = productKeyMemory(
      { query, keys: tf.transpose(parameters['keys']!, [0, 2, 1, 3]), values: parameters['values.weight']! },
      { topK: config['topk'] as number, weighting: config['non_competitive_gates'] === true ? 'relu' : 'softmax' },
    );
    return { o: norm(output, 'output_norm') };
  },
});
