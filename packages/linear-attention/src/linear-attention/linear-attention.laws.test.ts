import { tidy } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { goldenSuite, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import { expect } from 'vitest';
import { card } from './card.ts';
import { applyFeatureMap, isSigned } from './feature-maps.ts';
import type { FeatureMap, FeatureParameters } from './feature-maps.ts';
import { LinearAttention } from './layer.ts';
import type { LinearAttentionConfig } from './layer.ts';
import type { FeatureParameters64 } from './naive-feature-maps.ts';
import { naiveLinearAttention } from './naive.ts';
import { linearAttention } from './op.ts';
import type { LinearAttentionSettings, LinearAttentionTensors } from './settings.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;
const WIDTHS = { heads: 2, group: 2, keyDim: 4, valueDim: 3 };

interface Variant {
  readonly name: string;
  readonly settings: LinearAttentionSettings & { featureMap: FeatureMap };
  /** features F */
  readonly features: number;
  readonly lengths?: readonly number[];
  /** columns of learned weights */
  readonly learned?: number;
}

const close = async (given: tf.Tensor, wanted: number | ArrayLike<number>, tolerance: number): Promise<void> => {
  const values = await given.data();
  const right = typeof wanted === 'number' ? new Float32Array(values.length).fill(wanted) : wanted;
  expect(relativeError64(values, right)).toBeLessThan(tolerance);
};

const inAllForms = async (map: FeatureMap, forms: readonly ('parallel' | 'chunk' | 'recurrent')[], length: number): Promise<void> => {
  for (const form of forms) {
    const tensors = {
      query: randomTensor([1, length, 2, 4], 1),
      key: randomTensor([1, length, 2, 4], 2),
      value: tf.ones([1, length, 2, 3]),
    };
    const { output, state } = linearAttention(tensors, { featureMap: map, form });
    await close(output, 1, 1e-4);
    tf.dispose([output, tensors, { ...state }]);
  }
};

const degenerate: OpSubject['degenerate'] = [
  { title: 'values of ones give ones', run: () => inAllForms({ name: 'elu1' }, FORMS, 70) },
  {
    title: 'hedgehog at its start is the softmax of [x, -x]',
    run: async () => {
      const x = randomTensor([5, 4], 3);
      const [given, wanted] = tf.tidy(() => {
        const parameters = { weight: tf.eye(4), bias: tf.zeros([4]) };
        return [applyFeatureMap(x, { name: 'hedgehog' }, parameters), tf.softmax(tf.concat([x, tf.neg(x)], -1))];
      });
      await close(given, await wanted.data(), 1e-6);
      tf.dispose([x, given, wanted]);
    },
  },
  {
    // queries sum to one over the features, so with values of ones the output is the sum of the weights
    title: 'the weights of the efficient map sum to one over the sequence',
    run: async () => {
      await inAllForms({ name: 'efficient' }, ['chunk', 'recurrent'], 70);
      const tensors = { query: randomTensor([1, 9, 2, 4], 1), key: randomTensor([1, 9, 2, 4], 2), value: tf.ones([1, 9, 2, 3]) };
      const { output, state } = linearAttention(tensors, { featureMap: { name: 'efficient' }, pattern: 'noncausal-self' });
      await close(output, 1, 1e-6);
      tf.dispose([output, tensors, { ...state }]);
    },
  },
  {
    title: 'one token reads its own value',
    run: async () => {
      for (const form of FORMS) {
        const tensors = { query: randomTensor([2, 1, 2, 4], 1), key: randomTensor([2, 1, 2, 4], 2), value: randomTensor([2, 1, 2, 3], 3) };
        const { output, state } = linearAttention(tensors, { form });
        await close(output, await tensors.value.data(), 1e-5);
        tf.dispose([output, tensors, { ...state }]);
      }
    },
  },
];

// away from zero, where relu has a kink that finite differences would step over
function offZero(array: Array64): Array64 {
  return { shape: array.shape, data: array.data.map((value) => Math.fround(value + (value < 0 ? -0.01 : 0.01))) };
}

function parametersOf(inputs: Readonly<Record<string, unknown>>, side: string): FeatureParameters64 & FeatureParameters {
  const parts = ['weight', 'bias', 'weight2', 'bias2'].map((name) => [name, inputs[`${side}.${name}`]] as const);
  return Object.fromEntries(parts.filter(([, tensor]) => tensor)) as unknown as FeatureParameters64 & FeatureParameters;
}

function subjectOf({ name, settings, features, lengths, learned }: Variant): OpSubject {
  const { heads, group, keyDim, valueDim } = WIDTHS;
  const shapes = (length: number): LinearAttentionTensors => ({
    query: tf.zeros([2, length, heads * group, keyDim]),
    key: tf.zeros([2, length, heads, keyDim]),
    value: tf.zeros([2, length, heads, valueDim]),
  });
  const normalise = !isSigned(settings.featureMap);
  const resolved = {
    normalise,
    epsilon: 1e-6,
    scale: normalise ? 1 : features ** -0.5,
    ...settings,
    visible: (_: number, i: number) => i + 1,
  };
  const columns = valueDim + (normalise ? 1 : 0);
  const weights = learned
    ? (seed: number): Record<string, Array64> =>
        Object.fromEntries(
          ['query', 'key'].flatMap((side, at) => [
            [`${side}.weight`, uniform64([keyDim, learned], seed + at)],
            [`${side}.bias`, uniform64([learned], seed + 2 + at)],
            ...(settings.featureMap.name === 'hadamard'
              ? [
                  [`${side}.weight2`, uniform64([keyDim, learned], seed + 4 + at)],
                  [`${side}.bias2`, uniform64([learned], seed + 6 + at)],
                ]
              : []),
          ]),
        )
    : () => ({});
  const parameterNames = Object.keys(weights(1));
  return {
    card,
    name,
    degenerate,
    gradients: ['query', 'key', 'value', 'memory', ...parameterNames],
    ...(lengths ? { lengths } : {}),
    inputs: (length, seed) => ({
      query: offZero(uniform64([2, length, heads * group, keyDim], seed, -2, 2)),
      key: offZero(uniform64([2, length, heads, keyDim], seed + 1, -2, 2)),
      value: uniform64([2, length, heads, valueDim], seed + 2),
      // a memory that some tokens wrote: its normaliser is not below zero
      memory: uniform64([2, heads, features, columns], seed + 3, 0.1, 1),
      ...weights(seed + 10),
    }),
    naive: (inputs: Arrays64) =>
      naiveLinearAttention(
        {
          ...(inputs as unknown as { query: Array64; key: Array64; value: Array64; memory: Array64 }),
          ...(learned ? { featureParameters: { query: parametersOf(inputs, 'query'), key: parametersOf(inputs, 'key') } } : {}),
        },
        resolved,
      ) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (inputs) => {
          const { query, key, value, memory } = inputs as Record<string, tf.Tensor>;
          const { output, state } = linearAttention(
            { query: query!, key: key!, value: value! },
            {
              ...settings,
              form,
              chunkSize: 16,
              state: { memory: memory! },
              ...(learned ? { featureParameters: { query: parametersOf(inputs, 'query'), key: parametersOf(inputs, 'key') } } : {}),
            },
          );
          return { output, memory: state.memory };
        },
      ]),
    ),
    hard: [
      {
        title: 'channels of 1e4 and 0',
        inputs: () => {
          const inputs: Record<string, Array64> = { ...subjectInputs(features, columns), ...weights(5) };
          inputs.key!.data.forEach((_, at) => at % 5 === 0 && (inputs.key!.data[at] = 0));
          inputs.query!.data.forEach((value, at) => at % 3 === 0 && (inputs.query!.data[at] = 1e4 * value));
          return inputs;
        },
      },
    ],
    badInputs: [
      {
        title: 'a query of rank 3',
        argument: 'query',
        call: () => tidy(() => linearAttention({ ...shapes(2), query: tf.zeros([2, 2, 4]) })),
      },
      { title: 'no tokens', argument: 'query', call: () => tidy(() => linearAttention(shapes(0))) },
      {
        title: 'a key of another length',
        argument: 'key',
        call: () => tidy(() => linearAttention({ ...shapes(2), key: shapes(3).key })),
      },
      {
        title: 'a state of another width',
        argument: 'state.memory',
        call: () => tidy(() => linearAttention(shapes(2), { state: { memory: tf.zeros([2, 2, 4, 7]) } })),
      },
      {
        title: 'a signed map with a normaliser',
        argument: 'normalise',
        call: () => tidy(() => linearAttention(shapes(2), { featureMap: { name: 'silu' }, normalise: true })),
      },
      {
        title: 'a noncausal pattern in chunks',
        argument: 'form',
        call: () => tidy(() => linearAttention(shapes(2), { pattern: 'noncausal-self', form: 'chunk' })),
      },
      {
        title: 'a learned map without its weights',
        argument: 'featureParameters',
        call: () => tidy(() => linearAttention(shapes(2), { featureMap: { name: 't2r', featureDim: 4 } })),
      },
      { title: 'an epsilon of zero', argument: 'epsilon', call: () => tidy(() => linearAttention(shapes(2), { epsilon: 0 })) },
    ],
  };
}

function subjectInputs(features: number, columns: number): Record<string, Array64> {
  const { heads, group, keyDim, valueDim } = WIDTHS;
  return {
    query: uniform64([2, 20, heads * group, keyDim], 1),
    key: uniform64([2, 20, heads, keyDim], 2),
    value: uniform64([2, 20, heads, valueDim], 3),
    memory: uniform64([2, heads, features, columns], 4, 0.1, 1),
  };
}

const SOME = [1, 7, 65];
// more tokens bring a pre-activation so close to the kink of relu that finite differences step over it
const FEW = [1, 7, 17];
const VARIANTS: Variant[] = [
  { name: 'linear-attention, elu1', settings: { featureMap: { name: 'elu1' } }, features: 4 },
  { name: 'linear-attention, identity', settings: { featureMap: { name: 'identity' } }, features: 4, lengths: SOME },
  { name: 'linear-attention, relu', settings: { featureMap: { name: 'relu' }, epsilon: 1e-3 }, features: 4, lengths: SOME },
  { name: 'linear-attention, silu', settings: { featureMap: { name: 'silu' } }, features: 4, lengths: SOME },
  {
    name: 'linear-attention, softmax, features that sum to one',
    settings: { featureMap: { name: 'softmax' }, normaliseQuery: true, normaliseKey: true },
    features: 4,
    lengths: SOME,
  },
  { name: 'linear-attention, dpfp', settings: { featureMap: { name: 'dpfp', nu: 2 } }, features: 16, lengths: SOME },
  { name: 'linear-attention, taylor2', settings: { featureMap: { name: 'taylor2' } }, features: 21, lengths: SOME },
  { name: 'linear-attention, t2r', settings: { featureMap: { name: 't2r', featureDim: 5 } }, features: 5, learned: 5, lengths: FEW },
  {
    name: 'linear-attention, hadamard',
    settings: { featureMap: { name: 'hadamard', featureDim: 5 } },
    features: 5,
    learned: 5,
    lengths: SOME,
  },
  { name: 'linear-attention, hedgehog', settings: { featureMap: { name: 'hedgehog', c: 2 } }, features: 8, learned: 4, lengths: SOME },
];
for (const variant of VARIANTS) opLaws(subjectOf(variant));

const small = { dim: 8, heads: 2, seed: 3 } as const;
const LAYERS: { name: string; config: Omit<LinearAttentionConfig, 'dim' | 'heads'>; dims?: Record<string, number>; context?: boolean }[] = [
  { name: 'elu1', config: {}, dims: { heads: 2, featureDim: 4, valueDim: 4, normalised: 1 } },
  {
    name: 'identity, output norm, one key head',
    config: { featureMap: { name: 'identity' }, keyHeads: 1, bias: true },
    dims: { heads: 1, featureDim: 4, valueDim: 4, normalised: 0 },
  },
  {
    name: 'hedgehog, tied',
    config: { featureMap: { name: 'hedgehog' }, tiedFeatures: true },
    dims: { heads: 2, featureDim: 8, valueDim: 4, normalised: 1 },
  },
  { name: 'efficient', config: { featureMap: { name: 'efficient' } } },
  { name: 'noncausal-self', config: { pattern: 'noncausal-self' } },
  { name: 'noncausal-cross', config: { pattern: 'noncausal-cross', contextDim: 6 }, context: true },
  { name: 'causal-cross', config: { pattern: 'causal-cross', contextDim: 6 }, context: true },
];
for (const { name, config, dims, context } of LAYERS) {
  mixerLaws({
    card,
    name: `linear-attention, ${name}`,
    build: () => new LinearAttention({ ...small, ...config }),
    ...(dims ? { dims } : {}),
    ...(context ? { context: { length: 5, dim: 6 } } : {}),
    badConfigs: [
      { build: () => new LinearAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      {
        build: () => new LinearAttention({ dim: 8, heads: 2, featureMap: { name: 'silu' }, normalise: true }),
        argument: 'config.normalise',
      },
    ],
  });
}

const golden = (op: string): { op: string; folder: URL } => ({
  op,
  folder: new URL(`../../golden/linear-attention/${op}/`, import.meta.url),
});

for (const form of FORMS) {
  goldenSuite({
    ...golden('linear-attn'),
    name: `linear-attn, ${form}`,
    run: ({ inputs }) => {
      const state = inputs['initial_state'];
      const tensors = { query: inputs['q']!, key: inputs['k']!, value: inputs['v']! };
      const result = linearAttention(tensors, { featureMap: { name: 'identity' }, form, ...(state ? { state: { memory: state } } : {}) });
      return { o: result.output, final_state: result.state.memory };
    },
  });
  goldenSuite({
    ...golden('linear-attn-elu'),
    name: `linear-attn-elu, ${form}`,
    run: ({ inputs }) => {
      const state = inputs['initial_state'];
      const tensors = { query: inputs['q']!, key: inputs['k']!, value: inputs['v']! };
      const result = linearAttention(tensors, { normalise: false, scale: 1, form, ...(state ? { state: { memory: state } } : {}) });
      return { o: result.output, final_state: result.state.memory };
    },
  });
  goldenSuite({
    ...golden('linear-attn-elu-norm'),
    name: `linear-attn-elu-norm, ${form}`,
    run: ({ inputs }) => {
      const { q, k, v, initial_state: state, initial_z: z } = inputs;
      const [batch, , heads, width] = q!.shape as [number, number, number, number];
      const memory = state && tf.concat([state, tf.reshape(z!, [batch, heads, width, 1])], 3);
      const tensors = { query: q!, key: k!, value: v! };
      const result = linearAttention(tensors, { epsilon: 1e-10, scale: width ** -0.5, form, ...(memory ? { state: { memory } } : {}) });
      const [sums, normaliser] = tf.split(result.state.memory, [v!.shape[3]!, 1], 3) as [tf.Tensor, tf.Tensor];
      return { o: result.output, final_state: sums, final_z: tf.reshape(normaliser, [batch, 1, heads, width]) };
    },
  });
}
goldenSuite({
  ...golden('linear-attn-noncausal'),
  run: ({ inputs }) => {
    const tensors = { query: inputs['q']!, key: inputs['k']!, value: inputs['v']! };
    const mask = inputs['mask'];
    return { o: linearAttention(tensors, { pattern: 'noncausal-self', ...(mask ? { mask } : {}) }).output };
  },
});
