import { rotary, tidy } from '@seqloom/core';
import { expectSame, formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, paddingMask, randomTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { linearAttention } from '../linear-attention/op.ts';
import { card } from './card.ts';
import { Retention } from './layer.ts';
import type { RetentionConfig } from './layer.ts';
import { naiveRetention } from './naive.ts';
import type { NaiveRetentionInputs } from './naive.ts';
import { retention, retentionLogDecays } from './retention.ts';
import type { RetentionTensors } from './retention.ts';
import { rotationAngles, rotationFrequencies } from './rotation.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;

const tokens = (): { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor } => ({
  query: randomTensor([2, 10, 2, 4], 1),
  key: randomTensor([2, 10, 2, 4], 2),
  value: randomTensor([2, 10, 2, 3], 3),
});

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'with decays of one it is plain causal linear attention',
    run: async () => {
      for (const form of FORMS) {
        await expectSame(
          () => retention(tokens(), { form, logDecay: [0, 0] }).output,
          () => linearAttention(tokens(), { featureMap: { name: 'identity' }, form: 'parallel' }).output,
        );
      }
    },
  },
  {
    title: 'shifting all positions by a constant changes no output',
    run: async () => {
      const at = (start: number, style: 'torchscale' | 'fla', form: (typeof FORMS)[number]): tf.Tensor => {
        const angles = rotationAngles(tf.fill([2], start), 10, rotationFrequencies(4, style));
        const turn = (input: tf.Tensor): tf.Tensor => rotary({ input, ...angles }, { interleaved: style === 'torchscale' });
        const { query, key, value } = tokens();
        return retention({ query: turn(query), key: turn(key), value }, { form }).output;
      };
      for (const form of FORMS) {
        await expectSame(
          () => at(12345, 'torchscale', form),
          () => at(0, 'torchscale', form),
          2e-6,
        );
        await expectSame(
          () => at(3_000_000, 'fla', form),
          () => at(7, 'fla', form),
          2e-6,
        );
      }
    },
  },
  {
    title: 'noncausal retention with decays of one sees every token alike',
    run: async () => {
      for (const form of ['parallel', 'chunk'] as const) {
        await expectSame(
          () => retention(tokens(), { form, logDecay: [0, 0], pattern: 'noncausal-self' }).output,
          () => linearAttention(tokens(), { featureMap: { name: 'identity' }, pattern: 'noncausal-self' }).output,
        );
      }
    },
  },
];

const shapes = (length: number): RetentionTensors => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
});

interface Variant {
  readonly logDecay: readonly number[];
  readonly noncausal: boolean;
  readonly masked: boolean;
}

function subjectOf(name: string, { logDecay, noncausal, masked }: Variant): OpSubject {
  const scale = 0.5;
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2, 4], seed),
    key: uniform64([2, length, 2, 4], seed + 1),
    value: uniform64([2, length, 2, 3], seed + 2),
    ...(noncausal ? {} : { memory: uniform64([2, 2, 4, 3], seed + 4) }),
    ...(masked ? { mask: paddingMask(length) } : {}),
  });
  const pattern = noncausal ? 'noncausal-self' : 'causal-self';
  return {
    // the noncausal pattern has no recurrent form
    card: noncausal ? { ...card, forms: ['naive', 'parallel', 'chunk'] } : card,
    name,
    inputs,
    degenerate,
    lengths: masked ? [1, 7, 65] : [1, 7, 63, 65, 100],
    gradients: noncausal ? ['query', 'key', 'value'] : ['query', 'key', 'value', 'memory'],
    naive: (arrays: Arrays64) =>
      naiveRetention(arrays as unknown as NaiveRetentionInputs, { logDecay, scale, noncausal }) as unknown as Arrays64,
    forms: formsOf(
      retention,
      FORMS.filter((form) => !noncausal || form !== 'recurrent'),
      { logDecay, chunkSize: 16, pattern },
    ),
    hard: [
      {
        title: 'scores of 1e4',
        inputs: () => mapArrays64(inputs(20, 3), { query: (value) => 1e4 * value }),
      },
    ],
    badInputs: [
      { title: 'a value of rank 3', argument: 'value', call: () => tidy(() => retention({ ...shapes(2), value: tf.zeros([1, 2, 3]) })) },
      {
        title: 'fewer key heads',
        argument: 'query',
        call: () => tidy(() => retention({ ...shapes(2), key: tf.zeros([1, 2, 1, 4]), value: tf.zeros([1, 2, 1, 3]) })),
      },
      { title: 'a growing memory', argument: 'logDecay', call: () => tidy(() => retention(shapes(2), { logDecay: [0, 0.1] })) },
      { title: 'a decay too few', argument: 'logDecay', call: () => tidy(() => retention(shapes(2), { logDecay: [-1] })) },
      {
        title: 'a state for the noncausal pattern',
        argument: 'state',
        call: () => tidy(() => retention(shapes(2), { pattern: 'noncausal-self', state: { memory: tf.zeros([1, 2, 4, 3]) } })),
      },
      {
        title: 'a noncausal pattern token by token',
        argument: 'form',
        call: () => tidy(() => retention(shapes(2), { pattern: 'noncausal-self', form: 'recurrent' })),
      },
      {
        title: 'a cross pattern',
        argument: 'pattern',
        call: () => tidy(() => retention(shapes(2), { pattern: 'causal-cross' as 'causal-self' })),
      },
    ],
  };
}

opLaws(subjectOf('retention', { logDecay: retentionLogDecays(2), noncausal: false, masked: false }));
opLaws(subjectOf('retention, strong decays, padding', { logDecay: [-100, -0.7], noncausal: false, masked: true }));
opLaws(subjectOf('retention, noncausal, padding', { logDecay: [-0.02, -0.7], noncausal: true, masked: true }));

const LAYERS: { name: string; config: Omit<RetentionConfig, 'dim' | 'heads'>; dims?: Record<string, number> }[] = [
  { name: 'defaults', config: {}, dims: { heads: 2, keyDim: 4, valueDim: 8 } },
  {
    name: 'rotation of halves, recurrent',
    config: { rotary: 'fla', form: 'recurrent', valueDim: 3 },
    dims: { heads: 2, keyDim: 4, valueDim: 3 },
  },
  { name: 'no rotation, parallel', config: { rotary: 'none', form: 'parallel', headDim: 3 }, dims: { heads: 2, keyDim: 3, valueDim: 8 } },
  { name: 'noncausal', config: { pattern: 'noncausal-self' } },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `retention, ${name}`,
    build: () => new Retention({ dim: 8, heads: 2, seed: 3, ...config }),
    ...(dims ? { dims } : {}),
    // queries and keys start small, so that a step of 1e-2 is a large one for the norm behind them
    gradientStep: 3e-3,
    badConfigs: [
      { build: () => new Retention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new Retention({ dim: 8, heads: 2, headDim: 3 }), argument: 'config.headDim' },
      { build: () => new Retention({ dim: 8, heads: 2, pattern: 'noncausal-self', form: 'recurrent' }), argument: 'config.form' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'retention',
    name: `retention, ${form}`,
    folder: new URL('../../golden/retention/retention/', import.meta.url),
    run: ({ inputs }) => {
      // the vectors are laid out as [B, H, T, D]
      const turn = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, [0, 2, 1, 3]);
      const tensors = { query: turn(inputs['q']!), key: turn(inputs['k']!), value: turn(inputs['v']!) };
      const memory = inputs['initial_state'];
      const { output, state } = retention(tensors, { form, ...(memory ? { state: { memory } } : {}) });
      return { o: turn(output), final_state: state.memory };
    },
  });
}
