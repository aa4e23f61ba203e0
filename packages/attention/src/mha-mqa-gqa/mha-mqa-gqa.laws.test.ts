import { disposeState } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { cachedAttention } from './decode.ts';
import { MultiHeadAttention } from './layer.ts';
import type { MultiHeadAttentionConfig } from './layer.ts';
import { naiveMultiHeadAttention } from './naive.ts';
import type { NaiveAttentionInputs } from './naive.ts';
import { multiHeadAttention } from './parallel.ts';
import type { AttentionInputs } from './parallel.ts';

// keys that are in the cache before the first query comes
const CACHED = 3;

type Shape = { heads: number; kvHeads: number; headDim: number; options: { scale?: number; softCap?: number } };

/** Tokens in pieces: half of them at once, then one by one, starting from a cache of the first keys. */
function decode(inputs: OpTensors, options: Shape['options']): { output: tf.Tensor } {
  const { query, key, value, sinkLogits } = inputs as unknown as AttentionInputs;
  const length = query.shape[1]!;
  const cut = (x: tf.Tensor, from: number, count: number): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, count, -1, -1]);
  return tf.tidy(() => {
    const position = tf.mul(tf.ones([key.shape[0]!]), CACHED);
    let cache = { key: cut(key, 0, CACHED), value: cut(value, 0, CACHED), position };
    const outputs: tf.Tensor[] = [];
    for (let from = 0; from < length;) {
      const count = from === 0 ? Math.ceil(length / 2) : 1;
      const at = CACHED + from;
      const tokens = { query: cut(query, from, count), key: cut(key, at, count), value: cut(value, at, count), sinkLogits };
      const result = cachedAttention(tokens, cache, options);
      outputs.push(result.output);
      cache = result.cache as typeof cache;
      from += count;
    }
    return { output: tf.concat(outputs, 1) };
  });
}

const close = async (given: tf.Tensor, wanted: tf.Tensor): Promise<void> => {
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
  tf.dispose([given, wanted]);
};
const random = (shape: number[], seed: number): tf.Tensor => tf.randomNormal(shape, 0, 1, 'float32', seed);

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'with as many key heads as query heads every head attends on its own',
    run: async () => {
      const [query, key, value] = [random([2, 6, 3, 4], 1), random([2, 6, 3, 4], 2), random([2, 6, 3, 4], 3)];
      const head = (x: tf.Tensor, h: number): tf.Tensor => tf.slice(x, [0, 0, h, 0], [-1, -1, 1, -1]);
      const alone = tf.tidy(() =>
        tf.concat(
          [0, 1, 2].map((h) => multiHeadAttention({ query: head(query, h), key: head(key, h), value: head(value, h) }).output),
          2,
        ),
      );
      const together = tf.tidy(() => multiHeadAttention({ query, key, value }).output);
      tf.dispose([query, key, value]);
      await close(together, alone);
    },
  },
  {
    title: 'grouped heads with key and value weights copied over a group equal multi-head attention',
    run: async () => {
      const [grouped, full] = [new MultiHeadAttention({ dim: 8, heads: 4, kvHeads: 2 }), new MultiHeadAttention({ dim: 8, heads: 4 })];
      const weights = { ...(await grouped.stateDict()) };
      for (const name of ['key.weight', 'value.weight']) {
        // [8, 2 heads of 2] to [8, 4 heads of 2]
        const { data } = weights[name]!;
        const copied = Float32Array.from({ length: 64 }, (_, i) => data[Math.floor(i / 8) * 4 + Math.floor((i % 8) / 4) * 2 + (i % 2)]!);
        weights[name] = { shape: [8, 8], data: copied };
      }
      full.loadStateDict(weights);
      const x = random([2, 6, 8], 4);
      const [a, b] = [grouped.forward(x), full.forward(x)];
      x.dispose();
      grouped.dispose();
      full.dispose();
      disposeState(a.state);
      disposeState(b.state);
      await close(a.output, b.output);
    },
  },
  {
    title: 'permuting keys and values together changes nothing without a mask',
    run: async () => {
      const [query, key, value] = [random([1, 3, 2, 4], 1), random([1, 5, 2, 4], 2), random([1, 5, 2, 4], 3)];
      const reversed = tf.tidy(() => multiHeadAttention({ query, key: tf.reverse(key, 1), value: tf.reverse(value, 1) }).output);
      const plain = tf.tidy(() => multiHeadAttention({ query, key, value }).output);
      tf.dispose([query, key, value]);
      await close(reversed, plain);
    },
  },
  {
    title: 'with the weights of its producer a layer of given keys and values equals it',
    run: async () => {
      const config = { dim: 8, heads: 4, kvHeads: 2, valueHeadDim: 3 };
      const [producer, consumer] = [new MultiHeadAttention(config), new MultiHeadAttention({ ...config, keyValue: 'given' })];
      const { 'key.weight': _key, 'value.weight': _value, ...weights } = await producer.stateDict();
      consumer.loadStateDict(weights);
      const outputs = tf.tidy(() => {
        const x = random([2, 6, 8], 4) as tf.Tensor3D;
        const rest = { x, valid: null, lengths: null, context: null, contextValid: null, training: false };
        const first = producer.mix({ ...rest, state: producer.initialState(2) });
        const second = consumer.mix({ ...rest, state: consumer.initialState(2), keyValue: first.keyValue });
        return [second.output, first.output] as const;
      });
      producer.dispose();
      consumer.dispose();
      await close(...(outputs as unknown as [tf.Tensor, tf.Tensor]));
    },
  },
];

function opSubject(name: string, { heads, kvHeads, headDim, options }: Shape): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, heads, headDim], seed, -2, 2),
    key: uniform64([2, length + CACHED, kvHeads, headDim], seed + 1, -2, 2),
    value: uniform64([2, length + CACHED, kvHeads, 3], seed + 2),
    sinkLogits: uniform64([heads], seed + 3),
  });
  const causal = { ...options, causal: true };
  return {
    card,
    name,
    inputs,
    degenerate,
    gradients: ['query', 'key', 'value', 'sinkLogits'],
    naive: (arrays: Arrays64) => naiveMultiHeadAttention(arrays as unknown as NaiveAttentionInputs, causal) as unknown as Arrays64,
    forms: {
      parallel: (tensors) => tf.tidy(() => ({ output: multiHeadAttention(tensors as unknown as AttentionInputs, causal).output })),
      decode: (tensors) => decode(tensors, options),
    },
    hard: [
      {
        title: 'logits of 1e4',
        // float32 keeps a logit of that size to 1e-3
        tolerance: 1e-3,
        inputs: () => mapArrays64(inputs(20, 3), { query: (value) => 5e3 * value }),
      },
    ],
  };
}

opLaws(opSubject('mha-mqa-gqa, grouped heads', { heads: 4, kvHeads: 2, headDim: 3, options: {} }));
opLaws(
  opSubject('mha-mqa-gqa, one key head, soft cap and scale', { heads: 2, kvHeads: 1, headDim: 4, options: { scale: 0.9, softCap: 2 } }),
);

goldenSuite({
  op: 'softmax-attn',
  folder: new URL('../../golden/mha-mqa-gqa/softmax-attn/', import.meta.url),
  run: ({ inputs }, { config }) => {
    const tensors = { query: inputs['q']!, key: inputs['k']!, value: inputs['v']!, sinkLogits: inputs['sink_bias'] };
    return { o: multiHeadAttention(tensors, { causal: config['causal'] === true }).output };
  },
  ignoredOutputs: { max_logits: 'the row maximum is an inner value; logSumExp takes its place' },
});

const variants: [string, MultiHeadAttentionConfig, number?][] = [
  ['causal GQA with rotary', { dim: 8, heads: 4, kvHeads: 2 }],
  ['causal MQA with everything on', everything()],
  ['causal MHA with ALiBi', { dim: 8, heads: 2, alibi: true }],
  ['noncausal self', { dim: 8, heads: 2, pattern: 'noncausal-self', qkNorm: true }],
  ['noncausal cross', { dim: 8, heads: 2, kvHeads: 1, pattern: 'noncausal-cross', contextDim: 6, bias: true }, 5],
  ['causal cross with rotary', { dim: 8, heads: 2, pattern: 'causal-cross', contextDim: 6, rotary: {} }, 11],
];

function everything(): MultiHeadAttentionConfig {
  return {
    dim: 8,
    heads: 2,
    kvHeads: 1,
    headDim: 6,
    rotary: { dims: 4, interleaved: true, base: 100, scaling: { type: 'yarn', factor: 4, originalLength: 16 } },
    qkNorm: true,
    bias: true,
    outputBias: true,
    softCap: 5,
    outputGate: true,
    sinkLogits: true,
  };
}

for (const [name, config, contextLength] of variants) {
  mixerLaws({
    // a cross layer reads its context anew in every call and carries no more than its position
    card: contextLength ? { ...card, decode: 'constant-state' } : card,
    name: `mha-mqa-gqa, ${name}`,
    build: () => new MultiHeadAttention({ seed: 3, ...config }),
    ...(config.pattern && config.pattern !== 'causal-self'
      ? {}
      : { dims: { kvHeads: config.kvHeads ?? config.heads, headDim: config.headDim ?? config.dim / config.heads } }),
    ...(contextLength ? { context: { length: contextLength, dim: 6 } } : {}),
    badConfigs: [
      { build: () => new MultiHeadAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new MultiHeadAttention({ dim: 8, heads: 4, kvHeads: 3 }), argument: 'config.kvHeads' },
      { build: () => new MultiHeadAttention({ dim: 6, heads: 2 }), argument: 'config.rotary.dims' },
      { build: () => new MultiHeadAttention({ dim: 8, heads: 2, alibi: true, rotary: {} }), argument: 'config.alibi' },
    ],
  });
}
