import { disposeState } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { MultiHeadAttention } from '../mha-mqa-gqa/layer.ts';
import type { AttentionInputs } from '../mha-mqa-gqa/parallel.ts';
import { naiveFrequencies } from '../positional-encodings/naive.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import { card } from './card.ts';
import { slidingWindowAttention } from './chunk.ts';
import { rollingAttention, rollingCacheShapes } from './decode.ts';
import { SlidingWindowAttention } from './layer.ts';
import type { SlidingWindowAttentionConfig } from './layer.ts';
import { naiveSlidingWindowAttention } from './naive.ts';
import type { NaiveWindowInputs } from './naive.ts';

interface Shape {
  readonly window: number;
  readonly sinks: number;
  readonly positions: 'absolute' | 'cache';
}

const BASE = 100;
const cut = (x: tf.Tensor, from: number, count: number): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, count, -1, -1]);

/** Rotates and attends piece by piece, the first half at once and then one by one, with a rolling cache in between. */
function decode(inputs: OpTensors, { window, sinks, positions }: Shape): { output: tf.Tensor } {
  const given = inputs as unknown as AttentionInputs;
  const [batch, length, heads, headDim] = given.key.shape as [number, number, number, number];
  return tf.tidy(() => {
    const shapes = rollingCacheShapes(batch, { window, sinks, heads, headDim, valueDim: given.value.shape[3]! });
    const zeros = Object.entries(shapes).map(([name, shape]) => [name, tf.zeros(shape as number[])] as const);
    let state = { ...Object.fromEntries(zeros), position: tf.zeros([batch]) } as unknown as State;
    const outputs: tf.Tensor[] = [];
    for (let from = 0; from < length;) {
      const count = from === 0 ? Math.ceil(length / 2) : 1;
      const [query, key] = [cut(given.query, from, count), cut(given.key, from, count)];
      const rotated = rotaryEmbedding({ query, key, positions: { start: from, length: count } }, { base: BASE });
      const near = tf.tensor2d([Array.from({ length: count }, (_, t) => Math.min(from + t, sinks + window - 1))]);
      const turned = rotaryEmbedding({ query, key, positions: tf.tile(near, [batch, 1]) }, { base: BASE });
      const sinkQuery = positions === 'cache' ? turned.query : undefined;
      const tokens = { ...rotated, value: cut(given.value, from, count), sinkQuery, sinkLogits: given.sinkLogits };
      const result = rollingAttention(tokens, state, { window, sinks, positions });
      outputs.push(result.output);
      state = result.state;
      from += count;
    }
    return { output: tf.concat(outputs, 1) };
  });
}

/** Rotates and attends in one call. */
function chunk(inputs: OpTensors, { window, sinks }: Shape): { output: tf.Tensor } {
  const { query, key, value, sinkLogits } = inputs as unknown as AttentionInputs;
  return tf.tidy(() => {
    const rotated = rotaryEmbedding({ query, key, positions: { start: 0, length: query.shape[1]! } }, { base: BASE });
    return { output: slidingWindowAttention({ ...rotated, value, sinkLogits }, { window, sinks }).output };
  });
}

const close = async (given: tf.Tensor, wanted: tf.Tensor): Promise<void> => {
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
  tf.dispose([given, wanted]);
};

/** Two layers with the same weights on the same input. */
async function sameLayers(a: MultiHeadAttention | SlidingWindowAttention, b: SlidingWindowAttention, length: number): Promise<void> {
  const x = tf.randomNormal([2, length, 8], 0, 1, 'float32', 7);
  const [first, second] = [a.forward(x), b.forward(x)];
  x.dispose();
  a.dispose();
  b.dispose();
  disposeState(first.state);
  disposeState(second.state);
  await close(first.output, second.output);
}

const config = { dim: 8, heads: 4, kvHeads: 2, seed: 5 };
const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a window as long as the sequence without sinks is causal attention',
    run: () => sameLayers(new MultiHeadAttention(config), new SlidingWindowAttention({ ...config, window: 9 }), 9),
  },
  {
    title: 'a window of 1 without sinks gives every token its own value',
    run: async () => {
      const [query, value] = [tf.randomNormal([1, 5, 1, 2]), tf.randomNormal([1, 5, 1, 2])];
      const output = tf.tidy(() => slidingWindowAttention({ query, key: query, value }, { window: 1 }).output);
      query.dispose();
      await close(output, value);
    },
  },
  {
    title: 'cache positions equal absolute ones while the cache is not full',
    run: () => {
      const both = { ...config, window: 6, sinks: 3 };
      return sameLayers(new SlidingWindowAttention(both), new SlidingWindowAttention({ ...both, positions: 'cache' }), 9);
    },
  },
];

function opSubject(shape: Shape): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2, 4], seed, -2, 2),
    key: uniform64([2, length, 1, 4], seed + 1, -2, 2),
    value: uniform64([2, length, 1, 3], seed + 2),
    sinkLogits: uniform64([2], seed + 3),
  });
  const settings = { ...shape, frequencies: naiveFrequencies(4, BASE) };
  const { window, sinks, positions } = shape;
  return {
    // in one call there is no cache, hence no positions within it
    card: positions === 'cache' ? { ...card, forms: ['naive', 'decode'] } : card,
    name: `sliding-window-attention, window ${window}, ${sinks} sinks, ${positions} positions`,
    inputs,
    degenerate,
    gradients: ['query', 'key', 'value', 'sinkLogits'],
    naive: (arrays: Arrays64) => naiveSlidingWindowAttention(arrays as unknown as NaiveWindowInputs, settings) as unknown as Arrays64,
    forms: {
      ...(positions === 'cache' ? {} : { chunk: (tensors: OpTensors) => chunk(tensors, shape) }),
      decode: (tensors) => decode(tensors, shape),
    },
    hard: [
      {
        title: 'logits of 1e4',
        // float32 keeps a logit of that size to 1e-3
        tolerance: 1e-3,
        inputs: () => mapArrays64(inputs(20, 3), { query: (value) => 5e3 * value }),
      },
    ],
    badInputs: [
      {
        title: 'a window of no keys',
        argument: 'options.window',
        call: () => tf.tidy(() => chunkOfZeros(0)),
      },
    ],
  };
}

function chunkOfZeros(window: number): tf.Tensor {
  const x = tf.zeros([1, 2, 1, 2]);
  const state = { position: tf.zeros([1]) } as unknown as State;
  return rollingAttention({ query: x, key: x, value: x }, state, { window }).output;
}

opLaws(opSubject({ window: 3, sinks: 0, positions: 'absolute' }));
opLaws(opSubject({ window: 5, sinks: 2, positions: 'absolute' }));
opLaws(opSubject({ window: 5, sinks: 2, positions: 'cache' }));

goldenSuite({
  op: 'softmax-attn',
  name: 'softmax-attn, sliding window',
  folder: new URL('../../golden/sliding-window-attention/softmax-attn/', import.meta.url),
  run: ({ inputs }, { config: settings }) => {
    const tensors = { query: inputs['q']!, key: inputs['k']!, value: inputs['v']!, sinkLogits: inputs['sink_bias'] };
    // a case without a window has all keys in it
    return { o: slidingWindowAttention(tensors, { window: (settings['window_size'] as number | null) ?? 1000 }).output };
  },
  ignoredOutputs: { max_logits: 'the row maximum is an inner value; logSumExp takes its place' },
});

const variants: [string, SlidingWindowAttentionConfig][] = [
  ['a window', { dim: 8, heads: 4, kvHeads: 2, window: 4 }],
  ['a window and sinks', { dim: 8, heads: 2, window: 3, sinks: 2, sinkLogits: true }],
  ['cache positions', { dim: 8, heads: 2, kvHeads: 1, window: 3, sinks: 2, positions: 'cache', rotary: { base: 100 } }],
  ['cache positions with ALiBi', { dim: 8, heads: 2, window: 3, sinks: 2, positions: 'cache', alibi: true }],
  ['a window of one token', { dim: 8, heads: 2, window: 1, sinks: 1 }],
  ['a window longer than the sequence', { dim: 8, heads: 2, window: 40, qkNorm: true, outputGate: true }],
  ['a two-sided window and sinks', { dim: 8, heads: 2, window: 3, sinks: 1, pattern: 'noncausal-self' }],
];

for (const [name, config] of variants) {
  const { dim, heads, kvHeads = heads, window, sinks = 0 } = config;
  mixerLaws({
    card,
    name: `sliding-window-attention, ${name}`,
    build: () => new SlidingWindowAttention({ seed: 3, ...config }),
    ...(config.pattern === 'noncausal-self' ? {} : { dims: { kvHeads, headDim: dim / heads, window, sinks } }),
    badConfigs: [
      { build: () => new SlidingWindowAttention({ dim: 8, heads: 2, window: 0 }), argument: 'config.window' },
      { build: () => new SlidingWindowAttention({ dim: 8, heads: 2, window: 2, sinks: -1 }), argument: 'config.sinks' },
      {
        build: () => new SlidingWindowAttention({ dim: 8, heads: 2, window: 2, positions: 'cache', pattern: 'noncausal-self' }),
        argument: 'config.positions',
      },
    ],
  });
}
