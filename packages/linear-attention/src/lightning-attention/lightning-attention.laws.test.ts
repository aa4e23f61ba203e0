import { tidy } from '@seqloom/core';
import { expectSame, formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, paddingMask, randomTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { linearAttention } from '../linear-attention/op.ts';
import { retention } from '../retention/retention.ts';
import { card } from './card.ts';
import { lightningDecayRates } from './decay-rates.ts';
import { LightningAttention } from './layer.ts';
import type { LightningAttentionConfig } from './layer.ts';
import { lightningAttention } from './lightning-attention.ts';
import type { LightningAttentionTensors } from './lightning-attention.ts';
import { naiveLightningAttention } from './naive.ts';
import type { NaiveLightningInputs } from './naive.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;

const tokens = (): { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor } => ({
  query: randomTensor([2, 10, 2, 4], 1),
  key: randomTensor([2, 10, 2, 4], 2),
  value: randomTensor([2, 10, 2, 3], 3),
});

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'without decay it is plain causal linear attention',
    run: async () => {
      for (const form of FORMS) {
        await expectSame(
          () => lightningAttention(tokens(), { form, decayRates: [0, 0], scale: 0.5 }).output,
          () => linearAttention(tokens(), { featureMap: { name: 'identity' }, form: 'parallel' }).output,
        );
      }
    },
  },
  {
    title: 'it is retention with gamma = exp(-rate) and a scale of one',
    run: async () => {
      for (const form of FORMS) {
        await expectSame(
          () => lightningAttention(tokens(), { form, decayRates: [0.5, 0.03] }).output,
          () => retention(tokens(), { form: 'parallel', logDecay: [-0.5, -0.03], scale: 1 }).output,
        );
      }
    },
  },
  {
    title: 'the noncausal pattern is Q (K^T V)',
    run: () =>
      expectSame(
        () => lightningAttention(tokens(), { pattern: 'noncausal-self' }).output,
        () => {
          const [q, k, v] = Object.values(tokens()).map((tensor) => tf.transpose(tensor, [0, 2, 1, 3])) as [
            tf.Tensor,
            tf.Tensor,
            tf.Tensor,
          ];
          return tf.transpose(tf.matMul(q, tf.matMul(k, v, true, false)), [0, 2, 1, 3]);
        },
      ),
  },
];

const shapes = (length: number): LightningAttentionTensors => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
});

interface Variant {
  readonly decayRates: readonly number[];
  readonly noncausal: boolean;
  readonly masked: boolean;
}

function subjectOf(name: string, { decayRates, noncausal, masked }: Variant): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2, 4], seed),
    key: uniform64([2, length, 2, 4], seed + 1),
    value: uniform64([2, length, 2, 3], seed + 2),
    ...(noncausal ? {} : { memory: uniform64([2, 2, 4, 3], seed + 4) }),
    ...(masked ? { mask: paddingMask(length) } : {}),
  });
  return {
    // the noncausal pattern has one form
    card: noncausal ? { ...card, forms: ['naive', 'parallel'] } : card,
    name,
    inputs,
    degenerate,
    lengths: masked ? [1, 7, 65] : [1, 7, 63, 65, 100],
    gradients: noncausal ? ['query', 'key', 'value'] : ['query', 'key', 'value', 'memory'],
    naive: (arrays: Arrays64) =>
      naiveLightningAttention(arrays as unknown as NaiveLightningInputs, { decayRates, scale: 1, noncausal }) as unknown as Arrays64,
    forms: formsOf(
      lightningAttention,
      FORMS.filter((form) => !noncausal || form === 'parallel'),
      { chunkSize: 16, ...(noncausal ? { pattern: 'noncausal-self' } : { decayRates }) },
    ),
    hard: [
      {
        title: 'queries of 1e4',
        inputs: () => mapArrays64(inputs(20, 3), { query: (value) => 1e4 * value }),
      },
    ],
    badInputs: [
      { title: 'a key of rank 3', argument: 'key', call: () => tidy(() => lightningAttention({ ...shapes(2), key: tf.zeros([1, 2, 4]) })) },
      {
        title: 'a growing memory',
        argument: 'decayRates',
        call: () => tidy(() => lightningAttention(shapes(2), { decayRates: [0, -0.1] })),
      },
      { title: 'a rate too few', argument: 'decayRates', call: () => tidy(() => lightningAttention(shapes(2), { decayRates: [1] })) },
      {
        title: 'a decay for the noncausal pattern',
        argument: 'decayRates',
        call: () => tidy(() => lightningAttention(shapes(2), { pattern: 'noncausal-self', decayRates: [0, 1] })),
      },
      {
        title: 'a noncausal pattern in chunks',
        argument: 'form',
        call: () => tidy(() => lightningAttention(shapes(2), { pattern: 'noncausal-self', form: 'chunk' })),
      },
    ],
  };
}

const rates = lightningDecayRates({ heads: 2, layer: 1, layers: 4 });
opLaws(subjectOf('lightning-attention', { decayRates: rates, noncausal: false, masked: false }));
opLaws(subjectOf('lightning-attention, strong decays, padding', { decayRates: [100, 0], noncausal: false, masked: true }));
opLaws(subjectOf('lightning-attention, noncausal, padding', { decayRates: [], noncausal: true, masked: true }));

const LAYERS: { name: string; config: Omit<LightningAttentionConfig, 'dim' | 'heads'>; dims?: Record<string, number> }[] = [
  { name: 'as MiniMax', config: { layer: 1, layers: 3 }, dims: { heads: 2, headDim: 4 } },
  { name: 'as TransNormerLLM', config: { variant: 'transnormer', headDim: 3, form: 'recurrent' }, dims: { heads: 2, headDim: 3 } },
  { name: 'linear schedule, parallel, relative positions', config: { schedule: 'linear', form: 'parallel', relativePositions: true } },
  { name: 'noncausal', config: { pattern: 'noncausal-self' } },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `lightning-attention, ${name}`,
    build: () => new LightningAttention({ dim: 8, heads: 2, seed: 3, ...config }),
    ...(dims ? { dims } : {}),
    badConfigs: [
      { build: () => new LightningAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new LightningAttention({ dim: 8, heads: 2, layer: 2, layers: 2 }), argument: 'config.layer' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'lightning',
    name: `lightning, ${form}`,
    folder: new URL('../../golden/lightning-attention/lightning/', import.meta.url),
    run: ({ inputs }, { config }) => {
      const { q, k, v, initial_state: memory } = inputs;
      const [heads, layer, layers] = ['H', 'layer_idx', 'num_layers'].map((name) => config[name] as number) as [number, number, number];
      const { output, state } = lightningAttention(
        { query: q!, key: k!, value: v! },
        {
          form,
          decayRates: lightningDecayRates({ heads, layer, layers, schedule: 'linear' }),
          scale: q!.shape[3]! ** -0.5,
          ...(memory ? { state: { memory } } : {}),
        },
      );
      return { o: output, final_state: state.memory };
    },
  });
}
