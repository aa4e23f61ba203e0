import { tidy } from '@seqloom/core';
import { expectCloseTo, goldenSuite, mixerLaws, opLaws, opTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { deltaRule } from '../delta-net/delta-net.ts';
import { card } from './card.ts';
import { gatedDeltaRule } from './gated-delta-net.ts';
import { GatedDeltaNet } from './layer.ts';
import type { GatedDeltaNetConfig } from './layer.ts';
import { naiveGatedDeltaRule } from './naive.ts';
import type { NaiveGatedDeltaInputs } from './naive.ts';
import type { GatedDeltaTensors } from './value-groups.ts';

const FORMS = ['chunk', 'recurrent'] as const;

/** Random inputs; keys are at most of length one, so that beta up to 2 is stable. */
function inputsOf(length: number, seed: number, group = 1): Record<string, Array64> {
  return {
    query: uniform64([2, length, 2, 4], seed, -2, 2),
    key: uniform64([2, length, 2, 4], seed + 1, -0.5, 0.5),
    value: uniform64([2, length, 2 * group, 3], seed + 2),
    logDecay: uniform64([2, length, 2 * group], seed + 3, -1, 0),
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
      const { output, state } = gatedDeltaRule(tensors, { form, chunkSize: 16, state: { memory } });
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
    title: 'with beta of zero the memory only decays',
    run: () =>
      inBothForms(
        ({ beta }) => ({ beta: zerosLike(beta) }),
        ({ memory, logDecay }) => ({ memory: tf.mul(memory, tf.reshape(tf.exp(tf.sum(logDecay, 1)), [2, 2, 1, 1])) }),
      ),
  },
  {
    title: 'a decay of exp(-100) leaves the newest write alone',
    run: () =>
      inBothForms(
        ({ logDecay }) => ({ logDecay: tf.fill(logDecay.shape, -100) }),
        ({ key, value, beta, memory }) => {
          const last = (tensor: tf.Tensor, shape: number[]): tf.Tensor => tf.reshape(tf.slice(tensor, [0, 19], [2, 1]), [...shape]);
          const written = tf.mul(last(key, [2, 2, 4, 1]), last(value, [2, 2, 1, 3]));
          return { memory: tf.mul(tf.add(written, zerosLike(memory)), last(beta, [2, 2, 1, 1])) };
        },
      ),
  },
  {
    title: 'grouped values are the same as repeated queries and keys',
    run: () =>
      inBothForms(
        () => ({}),
        ({ memory, query, key, ...rest }) => {
          const twice = (tensor: tf.Tensor): tf.Tensor => tf.gather(tensor, tf.tensor1d([0, 0, 1, 1], 'int32'), 2);
          const { output, state } = gatedDeltaRule({ query: twice(query), key: twice(key), ...rest }, { state: { memory } });
          return { output, memory: state.memory };
        },
        2,
      ),
  },
];

const shapes = (length: number): GatedDeltaTensors => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
  logDecay: tf.zeros([1, length, 2]),
  beta: tf.zeros([1, length, 2]),
});

const badInputs: OpSubject['badInputs'] = [
  { title: 'a query of rank 3', argument: 'query', call: () => tidy(() => gatedDeltaRule({ ...shapes(2), query: tf.zeros([1, 2, 4]) })) },
  { title: 'no tokens', argument: 'query', call: () => tidy(() => gatedDeltaRule(shapes(0))) },
  { title: 'a key of fewer heads', argument: 'key', call: () => tidy(() => gatedDeltaRule({ ...shapes(2), key: tf.zeros([1, 2, 1, 4]) })) },
  {
    title: 'three value heads for two key heads',
    argument: 'value',
    call: () => tidy(() => gatedDeltaRule({ ...shapes(2), value: tf.zeros([1, 2, 3, 3]) })),
  },
  {
    title: 'a decay per channel',
    argument: 'logDecay',
    call: () => tidy(() => gatedDeltaRule({ ...shapes(2), logDecay: tf.zeros([1, 2, 2, 4]) })),
  },
  { title: 'beta of another length', argument: 'beta', call: () => tidy(() => gatedDeltaRule({ ...shapes(2), beta: shapes(3).beta })) },
  {
    title: 'a state of another width',
    argument: 'state.memory',
    call: () => tidy(() => gatedDeltaRule(shapes(2), { state: { memory: tf.zeros([1, 2, 4, 4]) } })),
  },
  { title: 'an infinite scale', argument: 'scale', call: () => tidy(() => gatedDeltaRule(shapes(2), { scale: Infinity })) },
];

function subjectOf(name: string, group: number, lengths?: readonly number[]): OpSubject {
  return {
    card,
    name,
    degenerate,
    badInputs,
    inputs: (length, seed) => inputsOf(length, seed, group),
    gradients: ['query', 'key', 'value', 'logDecay', 'beta', 'memory'],
    ...(lengths ? { lengths } : {}),
    naive: (arrays: Arrays64) => naiveGatedDeltaRule(arrays as unknown as NaiveGatedDeltaInputs) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (tensors) => {
          const { memory, ...rest } = tensors as Record<string, tf.Tensor>;
          const settings = { form, chunkSize: 16, state: { memory: memory! } };
          const { output, state } = gatedDeltaRule(rest as unknown as GatedDeltaTensors, settings);
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

opLaws(subjectOf('gated-delta-net', 1, [1, 7, 65]));
opLaws(subjectOf('gated-delta-net, beta up to 2, grouped values', 2));

const LAYERS: { name: string; config: Omit<GatedDeltaNetConfig, 'dim' | 'heads'>; dims: Record<string, number> }[] = [
  { name: 'as published', config: {}, dims: { heads: 2, headDim: 3 } },
  {
    name: 'no output gate, grouped values, negative eigenvalues, no convolution, token by token',
    config: { outputGate: false, valueHeads: 4, valueDim: 3, negativeEigenvalues: true, form: 'recurrent', kernelSize: 0 },
    dims: { heads: 2, headDim: 4, valueHeads: 4, valueDim: 3, kernelSize: 0 },
  },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `gated-delta-net, ${name}`,
    dims,
    // rows of unit length bend sharply where the row before was short: 1e-2 steps over more than its tangent
    gradientStep: 3e-3,
    build: () => new GatedDeltaNet({ dim: 8, heads: 2, seed: 3, ...config }),
    badConfigs: [
      { build: () => new GatedDeltaNet({ dim: 8, heads: 4 }), argument: 'config.heads' },
      { build: () => new GatedDeltaNet({ dim: 8, heads: 2, valueHeads: 3 }), argument: 'config.valueHeads' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'gated-delta-rule',
    name: `gated-delta-rule, ${form}`,
    folder: new URL('../../golden/gated-delta-net/gated-delta-rule/', import.meta.url),
    run: ({ inputs }) => {
      const { q, k, v, g, beta, initial_state: memory } = inputs as Record<string, tf.Tensor>;
      const tensors = { query: q!, key: k!, value: v!, logDecay: g!, beta: beta! };
      const result = gatedDeltaRule(tensors, { form, chunkSize: 16, ...(memory ? { state: { memory } } : {}) });
      return { o: result.output, final_state: result.state.memory };
    },
  });
}
