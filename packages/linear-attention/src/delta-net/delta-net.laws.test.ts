import { tidy } from '@seqloom/core';
import { expectCloseTo, formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, opTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { linearAttention } from '../linear-attention/op.ts';
import { card } from './card.ts';
import { deltaRule } from './delta-net.ts';
import type { DeltaRuleTensors } from './delta-net.ts';
import { DeltaNet } from './layer.ts';
import type { DeltaNetConfig } from './layer.ts';
import { naiveDeltaRule } from './naive.ts';
import type { NaiveDeltaInputs } from './naive.ts';

const FORMS = ['chunk', 'recurrent'] as const;

/** Rows of length one, each number exact in float32. */
function unitRows(shape: number[], seed: number): Array64 {
  const { data } = uniform64(shape, seed);
  const width = shape.at(-1)!;
  for (let row = 0; row < data.length; row += width) {
    const length = Math.hypot(...data.subarray(row, row + width));
    for (let d = 0; d < width; d++) data[row + d] = Math.fround(data[row + d]! / length);
  }
  return { shape, data };
}

/** Keys [1, T, 1, K] that are the axes in turn. */
function axes(length: number, width: number): tf.Tensor {
  return tf.tidy(() => tf.reshape(tf.tile(tf.eye(width), [Math.ceil(length / width), 1]), [1, -1, 1, width]));
}

const same = async (given: tf.Tensor, wanted: tf.Tensor, label: string): Promise<void> =>
  expectCloseTo(given, { shape: wanted.shape, data: Float64Array.from(await wanted.data()) }, 1e-6, label);

/** Runs both forms on the same tensors, which are freed afterwards. */
async function inBothForms(
  tensors: DeltaRuleTensors & { readonly memory?: tf.Tensor },
  check: (output: tf.Tensor, memory: tf.Tensor, form: string) => Promise<void>,
): Promise<void> {
  const { memory, ...rest } = tensors;
  for (const form of FORMS) {
    const { output, state } = deltaRule(rest, { form, scale: 1, chunkSize: 16, ...(memory ? { state: { memory } } : {}) });
    await check(output, state.memory, form);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose([rest, memory ?? []]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'beta of one and orthonormal keys: the memory holds the values, and a key reads its own',
    run: async () => {
      const value = opTensor(uniform64([1, 8, 1, 3], 1));
      await inBothForms({ query: axes(8, 8), key: axes(8, 8), value, beta: tf.ones([1, 8, 1]) }, async (output, memory, form) => {
        await same(output, value, `read as written, ${form}`);
        const held = tf.reshape(memory, [1, 8, 1, 3]);
        await same(held, value, `memory, ${form}`);
        held.dispose();
      });
    },
  },
  {
    title: 'a key written again with beta of one holds its new value alone',
    run: async () => {
      const value = opTensor(uniform64([1, 24, 1, 3], 2));
      await inBothForms({ query: axes(24, 8), key: axes(24, 8), value, beta: tf.ones([1, 24, 1]) }, async (_, memory, form) => {
        const last = tf.tidy(() => tf.reshape(tf.slice(value, [0, 16, 0, 0], [1, 8, 1, 3]), [1, 1, 8, 3]));
        await same(memory, last, form);
        last.dispose();
      });
    },
  },
  {
    title: 'beta of zero leaves the memory as it was',
    run: async () => {
      const [query, key] = [opTensor(unitRows([2, 20, 2, 4], 3)), opTensor(unitRows([2, 20, 2, 4], 4))];
      const [value, memory] = [opTensor(uniform64([2, 20, 2, 3], 5)), opTensor(uniform64([2, 2, 4, 3], 6))];
      await inBothForms({ query, key, value, beta: tf.zeros([2, 20, 2]), memory }, async (_, after, form) => same(after, memory, form));
    },
  },
  {
    title: 'mutually orthogonal keys give linear attention with values beta v',
    run: async () => {
      const [query, value] = [opTensor(uniform64([1, 8, 1, 8], 7)), opTensor(uniform64([1, 8, 1, 3], 8))];
      const [key, beta] = [axes(8, 8), opTensor(uniform64([1, 8, 1], 9, 0, 1))];
      const linear = tf.tidy(() => {
        const weighted = tf.mul(value, tf.reshape(beta, [1, 8, 1, 1]));
        return linearAttention({ query, key, value: weighted }, { featureMap: { name: 'identity' }, scale: 1 }).output;
      });
      await inBothForms({ query, key, value, beta }, async (output, _, form) => same(output, linear, form));
      linear.dispose();
    },
  },
];

const shapes = (length: number): DeltaRuleTensors => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
  beta: tf.zeros([1, length, 2]),
});

const badInputs: OpSubject['badInputs'] = [
  { title: 'a query of rank 3', argument: 'query', call: () => tidy(() => deltaRule({ ...shapes(2), query: tf.zeros([1, 2, 4]) })) },
  { title: 'no tokens', argument: 'query', call: () => tidy(() => deltaRule(shapes(0))) },
  { title: 'a key of another width', argument: 'key', call: () => tidy(() => deltaRule({ ...shapes(2), key: tf.zeros([1, 2, 2, 5]) })) },
  { title: 'a value of another length', argument: 'value', call: () => tidy(() => deltaRule({ ...shapes(2), value: shapes(3).value })) },
  { title: 'beta per channel', argument: 'beta', call: () => tidy(() => deltaRule({ ...shapes(2), beta: tf.zeros([1, 2, 2, 4]) })) },
  {
    title: 'a state of another width',
    argument: 'state.memory',
    call: () => tidy(() => deltaRule(shapes(2), { state: { memory: tf.zeros([1, 2, 4, 4]) } })),
  },
  { title: 'a mask of another length', argument: 'mask', call: () => tidy(() => deltaRule(shapes(2), { mask: tf.ones([1, 3]) })) },
  { title: 'chunks of half a token', argument: 'chunkSize', call: () => tidy(() => deltaRule(shapes(2), { chunkSize: 0.5 })) },
];

function subjectOf(name: string, { group, beta }: { group: number; beta: number }, lengths?: readonly number[]): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2 * group, 4], seed, -2, 2),
    key: unitRows([2, length, 2, 4], seed + 1),
    value: uniform64([2, length, 2, 3], seed + 2),
    beta: uniform64([2, length, 2], seed + 3, 0, beta),
    memory: uniform64([2, 2, 4, 3], seed + 4),
  });
  return {
    card,
    name,
    inputs,
    degenerate,
    badInputs,
    gradients: ['query', 'key', 'value', 'beta', 'memory'],
    ...(lengths ? { lengths } : {}),
    naive: (arrays: Arrays64) => naiveDeltaRule(arrays as unknown as NaiveDeltaInputs) as unknown as Arrays64,
    forms: formsOf(deltaRule, FORMS, { chunkSize: 16 }),
    hard: [
      {
        title: 'beta of 0, 1 and 2, keys that repeat, values of 1e4',
        inputs: () => {
          const arrays = inputs(70, 3);
          const { data } = arrays.key!;
          return mapArrays64(arrays, {
            beta: (_, at) => at % 3,
            // every token of a row writes at the keys of its first two tokens
            key: (_, at) => data[at - (at % (70 * 8)) + (at % 16)]!,
            value: (entry) => 1e4 * entry,
          });
        },
      },
    ],
  };
}

opLaws(subjectOf('delta-net', { group: 1, beta: 1 }, [1, 7, 65]));
opLaws(subjectOf('delta-net, beta up to 2, grouped query heads', { group: 2, beta: 2 }));

const LAYERS: { name: string; config: Omit<DeltaNetConfig, 'dim' | 'heads'>; dims: Record<string, number> }[] = [
  { name: 'as published', config: {}, dims: { heads: 2, headDim: 4 } },
  {
    name: 'gated, negative eigenvalues, token by token',
    config: { outputGate: true, negativeEigenvalues: true, form: 'recurrent', valueDim: 3, convolutionBias: true, kernelSize: 2 },
    dims: { heads: 2, headDim: 4, valueDim: 3, kernelSize: 2 },
  },
  {
    name: 'the first delta rule: elu + 1 over its sum, no convolution, beta of one',
    config: { activation: 'elu1', normalise: 'sum', kernelSize: 0, learnedBeta: false, headDim: 3 },
    dims: { heads: 2, headDim: 3, valueDim: 4, kernelSize: 0 },
  },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `delta-net, ${name}`,
    dims,
    build: () => new DeltaNet({ dim: 8, heads: 2, seed: 3, ...config }),
    badConfigs: [
      { build: () => new DeltaNet({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new DeltaNet({ dim: 8, heads: 2, normalise: 'sum' }), argument: 'config.normalise' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'delta-rule',
    name: `delta-rule, ${form}`,
    folder: new URL('../../golden/delta-net/delta-rule/', import.meta.url),
    run: ({ inputs }) => {
      // the vectors are laid out as [B, H, T, D]
      const first = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, tensor.rank === 4 ? [0, 2, 1, 3] : [0, 2, 1]);
      const [query, key, value, beta] = ['q', 'k', 'v', 'beta'].map((name) => first(inputs[name]!)) as [
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
      ];
      const memory = inputs['initial_state'];
      const result = deltaRule({ query, key, value, beta }, { form, chunkSize: 16, ...(memory ? { state: { memory } } : {}) });
      return { o: first(result.output), final_state: result.state.memory };
    },
  });
}
