import { disposeState, rmsNorm } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, GoldenCase, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { multiHeadAttention } from '../mha-mqa-gqa/parallel.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import { card } from './card.ts';
import { MultiHeadLatentAttention } from './layer.ts';
import type { MultiHeadLatentAttentionConfig } from './layer.ts';
import { multiHeadLatentAttention } from './multi-head-latent-attention.ts';
import type { LatentAttentionInputs } from './multi-head-latent-attention.ts';
import { naiveLatentAttention } from './naive.ts';
import type { NaiveLatentInputs } from './naive.ts';

// tokens that are in the cache before the first query comes
const CACHED = 3;

const close = async (given: tf.Tensor, wanted: tf.Tensor): Promise<void> => {
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
  tf.dispose([given, wanted]);
};
const random = (shape: number[], seed: number): tf.Tensor => tf.randomNormal(shape, 0, 1, 'float32', seed);

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'the absorbed form equals the expanded one',
    run: async () => {
      const inputs = {
        query: random([2, 5, 3, 6], 1),
        latent: random([2, 9, 7], 2),
        rotaryKey: random([2, 9, 2], 3),
        keyValueUp: random([7, 3, 9], 4),
      };
      const [absorbed, expanded] = (['decode', 'parallel'] as const).map((form) => multiHeadLatentAttention(inputs, { form }).output);
      tf.dispose(inputs);
      await close(absorbed!, expanded!);
    },
  },
  {
    title: 'without rotary part and with the identity as up-projection it is multi-head attention',
    run: async () => {
      const [query, key, value] = [random([2, 5, 2, 3], 1), random([2, 5, 2, 3], 2), random([2, 5, 2, 4], 3)];
      for (const form of ['parallel', 'decode'] as const) {
        const latent = tf.tidy(() => tf.reshape(tf.concat([key, value], 3), [2, 5, 14]));
        const keyValueUp = tf.tidy(() => tf.reshape(tf.eye(14), [14, 2, 7]));
        const { output } = multiHeadLatentAttention({ query, latent, keyValueUp }, { form });
        const wanted = tf.tidy(() => multiHeadAttention({ query, key, value }, { causal: true }).output);
        tf.dispose([latent, keyValueUp]);
        await close(output, wanted);
      }
      tf.dispose([query, key, value]);
    },
  },
  {
    title: 'without rotation, permuting the tokens before the last leaves its output alone',
    run: async () => {
      const layer = new MultiHeadLatentAttention({ dim: 8, heads: 2, latentDim: 4, contentDim: 3, rotaryDim: 2, rotary: null });
      const x = random([2, 6, 8], 1);
      const swapped = tf.tidy(() => tf.concat([tf.reverse(tf.slice(x, [0, 0, 0], [-1, 5, -1]), 1), tf.slice(x, [0, 5, 0])], 1));
      const last = [x, swapped].map((input) => {
        const { output, state } = layer.forward(input);
        disposeState(state);
        const token = tf.slice(output, [0, 5, 0]);
        output.dispose();
        return token;
      });
      tf.dispose([x, swapped]);
      layer.dispose();
      await close(last[0]!, last[1]!);
    },
  },
];

function opSubject(
  name: string,
  [heads, content, rotary, latent, value]: number[],
  options: { causal?: boolean; scale?: number },
): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, heads!, content! + rotary!], seed, -2, 2),
    latent: uniform64([2, length + CACHED, latent!], seed + 1, -2, 2),
    ...(rotary! > 0 ? { rotaryKey: uniform64([2, length + CACHED, rotary!], seed + 2, -2, 2) } : {}),
    keyValueUp: uniform64([latent!, heads!, content! + value!], seed + 3),
  });
  const run = (form: 'parallel' | 'decode') => (tensors: Readonly<Record<string, tf.Tensor | undefined>>) =>
    multiHeadLatentAttention(tensors as unknown as LatentAttentionInputs, { ...options, form });
  const refused = (title: string, argument: string, change: Partial<Record<keyof LatentAttentionInputs, number[]>>, form = 'auto') => ({
    title,
    argument,
    call: () =>
      tf.tidy(() => {
        const shapes = { query: [1, 2, 2, 3], latent: [1, 2, 4], rotaryKey: [1, 2, 2], keyValueUp: [4, 2, 3], ...change };
        const tensors = Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, tf.zeros(shape)]));
        return multiHeadLatentAttention(tensors as unknown as LatentAttentionInputs, { form: form as 'auto' }).output;
      }),
  });
  return {
    card,
    name: `multi-head-latent-attention, ${name}`,
    inputs,
    degenerate,
    lengths: [1, 7, 65],
    gradients: Object.keys(inputs(1, 1)),
    naive: (arrays: Arrays64) => naiveLatentAttention(arrays as unknown as NaiveLatentInputs, options) as unknown as Arrays64,
    forms: { parallel: run('parallel'), decode: run('decode') },
    hard: [
      {
        title: 'logits of 1e4',
        // float32 keeps a logit of that size to 1e-3
        tolerance: 1e-3,
        inputs: () => mapArrays64(inputs(20, 3), { query: (number) => 2e3 * number }),
      },
    ],
    badInputs: [
      refused('a query no wider than the rotary key', 'query', { query: [1, 2, 2, 2] }),
      refused('maps without values', 'keyValueUp', { keyValueUp: [4, 2, 1] }),
      refused('maps of another latent', 'keyValueUp', { keyValueUp: [5, 2, 3] }),
      refused('more queries than tokens', 'latent', { latent: [1, 1, 4], rotaryKey: [1, 1, 2] }),
      refused('a form that is none', 'options.form', {}, 'chunk'),
    ],
  };
}

opLaws(opSubject('with a rotary part', [2, 3, 2, 4, 3], {}));
opLaws(opSubject('without rotary part, both directions, narrow values', [2, 3, 0, 5, 2], { causal: false, scale: 0.9 }));

/** The original layer from its parameters, which are PyTorch's [out, in]. */
function original(
  parameters: Readonly<Record<string, tf.Tensor>>,
  x: tf.Tensor,
  { config }: GoldenCase,
  form: 'parallel' | 'decode',
): tf.Tensor {
  const {
    n_heads: heads,
    kv_lora_rank: latentDim,
    qk_nope_head_dim: contentDim,
    qk_rope_head_dim: rotaryDim,
  } = config as Record<string, number>;
  const [batch, length] = x.shape as [number, number];
  const times = (rows: tf.Tensor, name: string): tf.Tensor => {
    const weight = tf.transpose(parameters[`${name}.weight`]!) as tf.Tensor2D;
    return tf.reshape(tf.matMul(tf.reshape(rows, [batch * length, -1]) as tf.Tensor2D, weight), [batch, length, -1]);
  };
  const norm = (rows: tf.Tensor, name: string): tf.Tensor =>
    rmsNorm({ input: rows, weight: parameters[`${name}.weight`]! }, { epsilon: 1e-6 });
  const flat = parameters['wq.weight'] ? times(x, 'wq') : times(norm(times(x, 'wq_a'), 'q_norm'), 'wq_b');
  const query = tf.reshape(flat, [batch, length, heads!, contentDim! + rotaryDim!]);
  const [raw, shared] = tf.split(times(x, 'wkv_a'), [latentDim!, rotaryDim!], 2) as [tf.Tensor, tf.Tensor];
  const [content, moving] = tf.split(query, [contentDim!, rotaryDim!], 3) as [tf.Tensor, tf.Tensor];
  const { scaling, magnitude } = yarnOf(config);
  const turned = rotaryEmbedding(
    { query: moving, key: tf.expandDims(shared, 2), positions: { start: 0, length } },
    { interleaved: true, scaling: scaling && { ...scaling, magnitude: 1 } },
  );
  const { output } = multiHeadLatentAttention(
    {
      query: tf.concat([content, turned.query], 3),
      latent: norm(raw, 'kv_norm'),
      rotaryKey: tf.squeeze(turned.key, [2]),
      keyValueUp: tf.reshape(tf.transpose(parameters['wkv_b.weight']!), [latentDim!, heads!, -1]),
    },
    { form, scale: (contentDim! + rotaryDim!) ** -0.5 * magnitude ** 2 },
  );
  return times(output, 'wo');
}

function yarnOf(config: Readonly<Record<string, unknown>>) {
  return config['yarn']
    ? { scaling: { type: 'yarn', factor: 4, originalLength: 32 } as const, magnitude: 0.1 * Math.log(4) + 1 }
    : { scaling: null, magnitude: 1 };
}

const folder = new URL('../../golden/multi-head-latent-attention/mla/', import.meta.url);
for (const form of ['parallel', 'decode'] as const)
  goldenSuite({
    op: 'mla',
    name: `mla, ${form} form`,
    folder,
    run: ({ inputs, parameters }, golden) => ({ o: original(parameters, inputs['x']!, golden, form) }),
  });

const variants: [string, Partial<MultiHeadLatentAttentionConfig>][] = [
  ['plain', {}],
  [
    'with a query latent, YaRN, interleaved pairs and narrow values, absorbed',
    {
      queryLatentDim: 5,
      rotaryDim: 4,
      valueHeadDim: 2,
      form: 'decode',
      rotary: { base: 100, interleaved: true, scaling: { type: 'yarn', factor: 4, originalLength: 16 } },
    },
  ],
  ['without rotation, expanded', { rotary: null, rotaryDim: 3, form: 'parallel' }],
  ['without rotary part, both directions', { rotaryDim: 0, pattern: 'noncausal-self' }],
];

for (const [name, config] of variants) {
  const all = { dim: 8, heads: 2, latentDim: 4, contentDim: 3, rotaryDim: 2, ...config };
  mixerLaws({
    card,
    name: `multi-head-latent-attention, ${name}`,
    build: () => new MultiHeadLatentAttention({ seed: 3, ...all }),
    ...(config.pattern ? {} : { dims: { latentDim: all.latentDim, rotaryDim: all.rotaryDim } }),
    badConfigs: [
      { build: () => new MultiHeadLatentAttention({ ...all, latentDim: 0 }), argument: 'config.latentDim' },
      { build: () => new MultiHeadLatentAttention({ ...all, rotary: {}, rotaryDim: 3 }), argument: 'config.rotaryDim' },
      { build: () => new MultiHeadLatentAttention({ ...all, rotary: { dims: 4 }, rotaryDim: 2 }), argument: 'config.rotaryDim' },
    ],
  });
}
