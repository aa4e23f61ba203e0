import { tidy } from '@seqloom/core';
import { formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { taylorFeatureDim, taylorFeatures } from '../linear-attention/taylor-features.ts';
import type { LinearAttentionTensors } from '../linear-attention/settings.ts';
import { card } from './card.ts';
import { BasedTaylor } from './layer.ts';
import type { BasedTaylorConfig } from './layer.ts';
import { naiveTaylorAttention } from './naive.ts';
import type { NaiveTaylorInputs } from './naive.ts';
import { taylorAttention } from './op.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;

const close = async (given: tf.Tensor, wanted: number | ArrayLike<number>, tolerance: number): Promise<void> => {
  const values = await given.data();
  const right = typeof wanted === 'number' ? new Float32Array(values.length).fill(wanted) : wanted;
  expect(relativeError64(values, right)).toBeLessThan(tolerance);
};

// runs work on the outputs of every form, for queries, keys and values of ten tokens
async function inAllForms(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, check: (output: tf.Tensor) => Promise<void>): Promise<void> {
  for (const form of FORMS) {
    const { output, state } = taylorAttention({ query, key, value }, { form });
    await check(output);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose([query, key, value]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'full and symmetric features give 1 + u + u^2 / 2',
    run: async () => {
      const [q, k] = [randomTensor([6, 5], 1, -2, 2), randomTensor([6, 5], 2, -2, 2)];
      const wanted = tf.tidy(() => {
        const u = tf.div(tf.sum(tf.mul(q, k), 1), Math.sqrt(5));
        return tf.add(tf.add(u, 1), tf.mul(tf.square(u), 0.5));
      });
      for (const symmetric of [false, true]) {
        const kernel = tf.tidy(() => tf.sum(tf.mul(taylorFeatures(q, symmetric), taylorFeatures(k, symmetric)), 1));
        await close(kernel, await wanted.data(), 1e-6);
        kernel.dispose();
      }
      expect([taylorFeatureDim(16, false), taylorFeatureDim(16, true)]).toEqual([273, 153]);
      tf.dispose([q, k, wanted]);
    },
  },
  {
    title: 'values of ones give ones',
    run: () =>
      inAllForms(randomTensor([1, 10, 2, 4], 1), randomTensor([1, 10, 2, 4], 2), tf.ones([1, 10, 2, 3]), (output) =>
        close(output, 1, 1e-5),
      ),
  },
  {
    title: 'queries of zeros give the mean of the values so far',
    run: async () => {
      const value = randomTensor([1, 10, 2, 3], 3);
      const means = tf.tidy(() => {
        const counts = tf.reshape(tf.range(1, 11, 1, 'float32'), [1, 10, 1, 1]);
        return tf.div(tf.cumsum(value, 1), counts);
      });
      const wanted = await means.data();
      means.dispose();
      await inAllForms(tf.zeros([1, 10, 2, 4]), randomTensor([1, 10, 2, 4], 2), value, (output) => close(output, wanted, 1e-5));
    },
  },
  {
    title: 'small queries and keys come close to softmax attention, with an error of the third order',
    run: async () => {
      for (const reach of [0.4, 0.2]) {
        const [query, key, value] = [
          randomTensor([1, 10, 1, 4], 1, -reach, reach),
          randomTensor([1, 10, 1, 4], 2, -reach, reach),
          randomTensor([1, 10, 1, 3], 3),
        ];
        const softmax = tf.tidy(() => {
          const [q, k, v] = [query, key, value].map((tensor) => tf.squeeze(tensor, [0, 2])) as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
          const weights = tf.exp(tf.div(tf.matMul(q, k, false, true), 2));
          const seen = tf.mul(weights, tf.linalg.bandPart(tf.ones([10, 10]), -1, 0));
          return tf.div(tf.matMul(seen as tf.Tensor2D, v), tf.sum(seen, 1, true));
        });
        const wanted = await softmax.data();
        softmax.dispose();
        // |u| is at most 2 reach^2, so the cut-off terms are below (2 reach^2)^3 / 6
        await inAllForms(query, key, value, (output) => close(output, wanted, (2 * reach ** 2) ** 3 / 6));
      }
    },
  },
];

const shapes = (length: number): LinearAttentionTensors => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
});

function subjectOf(name: string, { symmetric, normalise, group }: { symmetric: boolean; normalise: boolean; group: number }): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2 * group, 4], seed, -2, 2),
    key: uniform64([2, length, 2, 4], seed + 1, -2, 2),
    value: uniform64([2, length, 2, 3], seed + 2),
    memory: memoryOf(seed + 3),
  });
  // a memory that tokens wrote, so that its normaliser is positive for every query
  const memoryOf = (seed: number): Array64 => {
    const tokens = { query: uniform64([2, 5, 2, 4], 1), key: uniform64([2, 5, 2, 4], seed), value: uniform64([2, 5, 2, 3], seed + 9) };
    const { shape, data } = naiveTaylorAttention(tokens, { normalise, symmetric, epsilon: 1e-6, visible: () => 0 }).memory;
    return { shape, data: data.map(Math.fround) };
  };
  return {
    card,
    name,
    inputs,
    degenerate,
    gradients: ['query', 'key', 'value', 'memory'],
    naive: (arrays: Arrays64) =>
      naiveTaylorAttention(arrays as unknown as NaiveTaylorInputs, {
        normalise,
        symmetric,
        epsilon: 1e-6,
        visible: (_, i) => i + 1,
      }) as unknown as Arrays64,
    forms: formsOf(taylorAttention, FORMS, { symmetric, normalise, chunkSize: 16 }),
    hard: [
      {
        title: 'logits of 1e4',
        inputs: () => mapArrays64(inputs(20, 3), { query: (value) => 5e3 * value }),
      },
    ],
    badInputs: [
      {
        title: 'a value of rank 3',
        argument: 'value',
        call: () => tidy(() => taylorAttention({ ...shapes(2), value: tf.zeros([1, 2, 3]) })),
      },
      { title: 'no tokens', argument: 'query', call: () => tidy(() => taylorAttention(shapes(0))) },
      {
        title: 'a key of another width',
        argument: 'key',
        call: () => tidy(() => taylorAttention({ ...shapes(2), key: tf.zeros([1, 2, 2, 5]) })),
      },
      {
        title: 'a state of full features for a symmetric call',
        argument: 'state.memory',
        call: () => tidy(() => taylorAttention(shapes(2), { state: { memory: tf.zeros([1, 2, 21, 4]) } })),
      },
      { title: 'chunks of half a token', argument: 'chunkSize', call: () => tidy(() => taylorAttention(shapes(2), { chunkSize: 0.5 })) },
      {
        title: 'a noncausal pattern token by token',
        argument: 'form',
        call: () => tidy(() => taylorAttention(shapes(2), { pattern: 'noncausal-cross', form: 'recurrent' })),
      },
    ],
  };
}

opLaws(subjectOf('based-taylor', { symmetric: true, normalise: true, group: 1 }));
opLaws(subjectOf('based-taylor, full features, grouped heads', { symmetric: false, normalise: true, group: 2 }));
opLaws(subjectOf('based-taylor, not normalised', { symmetric: true, normalise: false, group: 1 }));

const LAYERS: { name: string; config: Omit<BasedTaylorConfig, 'dim' | 'heads'>; dims?: Record<string, number>; context?: boolean }[] = [
  { name: 'symmetric', config: {}, dims: { heads: 2, featureDim: 3, valueDim: 4 } },
  {
    name: 'full features, one key head',
    config: { symmetric: false, keyHeads: 1 },
    dims: { heads: 1, featureDim: 3, valueDim: 4, symmetric: 0 },
  },
  { name: 'noncausal-self', config: { pattern: 'noncausal-self' } },
  { name: 'noncausal-cross', config: { pattern: 'noncausal-cross', contextDim: 6 }, context: true },
  { name: 'causal-cross', config: { pattern: 'causal-cross', contextDim: 6 }, context: true },
];
for (const { name, config, dims, context } of LAYERS) {
  mixerLaws({
    card,
    name: `based-taylor, ${name}`,
    build: () => new BasedTaylor({ dim: 8, heads: 2, featureDim: 3, seed: 3, ...config }),
    ...(dims ? { dims } : {}),
    ...(context ? { context: { length: 5, dim: 6 } } : {}),
    badConfigs: [
      { build: () => new BasedTaylor({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new BasedTaylor({ dim: 8, heads: 2, contextDim: 8 }), argument: 'config.contextDim' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'based',
    name: `based, ${form}`,
    folder: new URL('../../golden/based-taylor/based/', import.meta.url),
    run: ({ inputs }, { config }) => {
      // the vectors are laid out as [B, H, T, D]
      const first = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, [0, 2, 1, 3]);
      const tensors = { query: first(inputs['q']!), key: first(inputs['k']!), value: first(inputs['v']!) };
      return { o: first(taylorAttention(tensors, { form, normalise: config['use_norm'] === true }).output) };
    },
  });
}
