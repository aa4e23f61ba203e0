import { tidy } from '@seqloom/core';
import { expectCloseTo, goldenSuite, mixerLaws, opLaws, opTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { deltaRule } from '../delta-net/delta-net.ts';
import { gatedDeltaRule } from '../gated-delta-net/gated-delta-net.ts';
import type { GatedDeltaTensors } from '../gated-delta-net/value-groups.ts';
import { card } from './card.ts';
import { kimiDeltaAttention } from './kimi-delta-attention.ts';
import { KimiDeltaAttention } from './layer.ts';
import type { KimiDeltaAttentionConfig } from './layer.ts';
import { naiveKimiDeltaAttention } from './naive.ts';
import type { NaiveKimiDeltaInputs } from './naive.ts';

const FORMS = ['chunk', 'recurrent'] as const;

/** Random inputs; keys are at most of length one, so that beta up to 2 is stable. */
function inputsOf(length: number, seed: number, group = 1): Record<string, Array64> {
  return {
    query: uniform64([2, length, 2, 4], seed, -2, 2),
    key: uniform64([2, length, 2, 4], seed + 1, -0.5, 0.5),
    value: uniform64([2, length, 2 * group, 3], seed + 2),
    logDecay: uniform64([2, length, 2 * group, 4], seed + 3, -1, 0),
    beta: uniform64([2, length, 2 * group], seed + 4, 0, group),
    memory: uniform64([2, 2 * group, 4, 3], seed + 5),
  };
}

const tensorsOf = (arrays: Record<string, Array64>): GatedDeltaTensors & { readonly memory: tf.Tensor } =>
  Object.fromEntries(Object.entries(arrays).map(([name, array]) => [name, opTensor(array)])) as unknown as GatedDeltaTensors & {
    readonly memory: tf.Tensor;
  };

const same = async (given: tf.Tensor, wanted: tf.Tensor, label: string): Promise<void> =>
  expectCloseTo(given, { shape: wanted.shape, data: Float64Array.from(await wanted.data()) }, 1e-5, label);

/** Runs both forms on 20 tokens, with some inputs replaced, beside what is wanted. */
async function inBothForms(
  change: (tensors: GatedDeltaTensors & { readonly memory: tf.Tensor }) => Partial<GatedDeltaTensors>,
  wanted: (tensors: GatedDeltaTensors & { readonly memory: tf.Tensor }) => { output?: tf.Tensor; memory: tf.Tensor },
  group = 1,
): Promise<void> {
  for (const form of FORMS) {
    const { given, right } = tidy(() => {
      const random = tensorsOf(inputsOf(20, 5, group));
      const { memory, ...tensors } = { ...random, ...change(random) };
      const { output, state } = kimiDeltaAttention(tensors, { form, chunkSize: 16, state: { memory } });
      return { given: { output, memory: state.memory }, right: wanted({ ...tensors, memory }) };
    });
    await same(given.memory, right.memory, `memory, ${form}`);
    if (right.output) await same(given.output, right.output, `output, ${form}`);
    tf.dispose([given, { ...right }]);
  }
}

const zerosLike = (tensor: tf.Tensor): tf.Tensor => tf.zeros(tensor.shape);

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'with equal decays in all channels it is Gated DeltaNet',
    run: () =>
      inBothForms(
        ({ logDecay }) => ({ logDecay: tf.add(tf.slice(logDecay, [0, 0, 0, 0], [-1, -1, -1, 1]), zerosLike(logDecay)) }),
        ({ memory, logDecay, ...rest }) => {
          const ofHead = tf.reshape(tf.slice(logDecay, [0, 0, 0, 0], [-1, -1, -1, 1]), logDecay.shape.slice(0, 3));
          const { output, state } = gatedDeltaRule({ ...rest, logDecay: ofHead }, { state: { memory } });
          return { output, memory: state.memory };
        },
        2,
      ),
  },
  {
    title: 'without decay it is DeltaNet',
    run: () =>
      inBothForms(
        ({ logDecay }) => ({ logDecay: zerosLike(logDecay) }),
        ({ memory, query, key, value, beta }) => {
          const { output, state } = deltaRule({ query, key, value, beta }, { state: { memory } });
          return { output, memory: state.memory };
        },
      ),
  },
  {
    title: 'with beta of zero every channel of the memory decays on its own',
    run: () =>
      inBothForms(
        ({ beta }) => ({ beta: zerosLike(beta) }),
        ({ memory, logDecay }) => ({ memory: tf.mul(memory, tf.reshape(tf.exp(tf.sum(logDecay, 1)), [2, 2, 4, 1])) }),
      ),
  },
  {
    title: 'it is the diagonal-plus-low-rank recurrence with a = -beta k and b = alpha k',
    run: () =>
      inBothForms(
        () => ({}),
        ({ memory, key, value, logDecay, beta }) => {
          const token = (tensor: tf.Tensor, t: number, shape: number[]): tf.Tensor => tf.reshape(tf.slice(tensor, [0, t], [2, 1]), shape);
          let S = memory;
          for (let t = 0; t < 20; t++) {
            const [k, alpha] = [token(key, t, [2, 2, 4, 1]), tf.exp(token(logDecay, t, [2, 2, 4, 1]))];
            const strength = token(beta, t, [2, 2, 1, 1]);
            const [a, b] = [tf.neg(tf.mul(strength, k)), tf.mul(alpha, k)];
            const lowRank = tf.mul(a, tf.sum(tf.mul(b, S), 2, true));
            S = tf.add(tf.add(tf.mul(alpha, S), lowRank), tf.mul(k, tf.mul(strength, token(value, t, [2, 2, 1, 3]))));
          }
          return { memory: S };
        },
      ),
  },
];

const shapes = (length: number): GatedDeltaTensors => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
  logDecay: tf.zeros([1, length, 2, 4]),
  beta: tf.zeros([1, length, 2]),
});

const badInputs: OpSubject['badInputs'] = [
  {
    title: 'a query of rank 3',
    argument: 'query',
    call: () => tidy(() => kimiDeltaAttention({ ...shapes(2), query: tf.zeros([1, 2, 4]) })),
  },
  { title: 'no tokens', argument: 'query', call: () => tidy(() => kimiDeltaAttention(shapes(0))) },
  {
    title: 'a key of fewer heads',
    argument: 'key',
    call: () => tidy(() => kimiDeltaAttention({ ...shapes(2), key: tf.zeros([1, 2, 1, 4]) })),
  },
  {
    title: 'three value heads for two key heads',
    argument: 'value',
    call: () => tidy(() => kimiDeltaAttention({ ...shapes(2), value: tf.zeros([1, 2, 3, 3]) })),
  },
  {
    title: 'one decay per head',
    argument: 'logDecay',
    call: () => tidy(() => kimiDeltaAttention({ ...shapes(2), logDecay: tf.zeros([1, 2, 2]) })),
  },
  { title: 'beta of another length', argument: 'beta', call: () => tidy(() => kimiDeltaAttention({ ...shapes(2), beta: shapes(3).beta })) },
  {
    title: 'a state of another width',
    argument: 'state.memory',
    call: () => tidy(() => kimiDeltaAttention(shapes(2), { state: { memory: tf.zeros([1, 2, 4, 4]) } })),
  },
  { title: 'an infinite scale', argument: 'scale', call: () => tidy(() => kimiDeltaAttention(shapes(2), { scale: Infinity })) },
];

function subjectOf(name: string, group: number, lengths: readonly number[]): OpSubject {
  return {
    card,
    name,
    degenerate,
    badInputs,
    inputs: (length, seed) => inputsOf(length, seed, group),
    gradients: ['query', 'key', 'value', 'logDecay', 'beta', 'memory'],
    lengths,
    naive: (arrays: Arrays64) => naiveKimiDeltaAttention(arrays as unknown as NaiveKimiDeltaInputs) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (tensors) => {
          const { memory, ...rest } = tensors as Record<string, tf.Tensor>;
          const settings = { form, chunkSize: 16, state: { memory: memory! } };
          const { output, state } = kimiDeltaAttention(rest as unknown as GatedDeltaTensors, settings);
          return { output, memory: state.memory };
        },
      ]),
    ),
    hard: [
      {
        title: 'log decays from 0 to -100 and minus infinity, beta of 0, 1 and 2',
        inputs: () => {
          const arrays = inputsOf(40, 3, group);
          const decays = [0, -1e-7, 0, -30, -1e-7, -100, 0, -1e-3, -Infinity, 0, 0].map(Math.fround);
          arrays.logDecay!.data.forEach((_, at) => (arrays.logDecay!.data[at] = decays[at % 11]!));
          arrays.beta!.data.forEach((_, at) => (arrays.beta!.data[at] = at % 3));
          return arrays;
        },
      },
    ],
  };
}

opLaws(subjectOf('kimi-delta-attention', 1, [1, 7, 65]));
opLaws(subjectOf('kimi-delta-attention, beta up to 2, grouped values', 2, [7, 63, 100]));

const LAYERS: { name: string; config: Omit<KimiDeltaAttentionConfig, 'dim' | 'heads'>; dims: Record<string, number> }[] = [
  { name: 'as published', config: {}, dims: { heads: 2, headDim: 4 } },
  {
    name: 'bounded gate, grouped values, negative eigenvalues, no convolution, token by token',
    config: { lowestLogDecay: -5, valueHeads: 4, valueDim: 3, negativeEigenvalues: true, form: 'recurrent', kernelSize: 0 },
    dims: { heads: 2, headDim: 4, valueHeads: 4, valueDim: 3, kernelSize: 0 },
  },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `kimi-delta-attention, ${name}`,
    dims,
    // rows of unit length bend sharply where the row before was short: 1e-2 steps over more than its tangent
    gradientStep: 3e-3,
    build: () => new KimiDeltaAttention({ dim: 8, heads: 2, seed: 3, ...config }),
    badConfigs: [
      { build: () => new KimiDeltaAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new KimiDeltaAttention({ dim: 8, heads: 2, lowestLogDecay: 5 }), argument: 'config.lowestLogDecay' },
      { build: () => new KimiDeltaAttention({ dim: 8, heads: 2, valueHeads: 3 }), argument: 'config.valueHeads' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'kda',
    name: `kda, ${form}`,
    folder: new URL('../../golden/kimi-delta-attention/kda/', import.meta.url),
    run: ({ inputs }) => {
      const { q, k, v, g, beta, initial_state: memory } = inputs as Record<string, tf.Tensor>;
      const tensors = { query: q!, key: k!, value: v!, logDecay: g!, beta: beta! };
      const result = kimiDeltaAttention(tensors, { form, chunkSize: 16, ...(memory ? { state: { memory } } : {}) });
      return { o: result.output, final_state: result.state.memory };
    },
  });
}
