import { tidy } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { taylorAttention } from '../based-taylor/op.ts';
import { card } from './card.ts';
import { prefixLinearAttention } from './jrt-prefix-linear-attention.ts';
import type { PrefixTensors } from './jrt-prefix-linear-attention.ts';
import { PrefixLinearAttention } from './layer.ts';
import type { PrefixLinearAttentionConfig } from './layer.ts';
import { naivePrefixLinearAttention } from './naive.ts';
import type { NaivePrefixInputs } from './naive.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;
const PREFIX = 5;

const close = async (given: tf.Tensor, wanted: tf.Tensor, tolerance = 1e-5): Promise<void> => {
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(tolerance);
};

// runs a check on every form with a prefix of five and ten tokens
async function inAllForms(check: (tensors: Required<PrefixTensors>, form: (typeof FORMS)[number]) => Promise<void>): Promise<void> {
  const tensors = {
    query: randomTensor([1, 10, 2, 4], 1),
    key: randomTensor([1, 10, 2, 4], 2),
    value: randomTensor([1, 10, 2, 3], 3),
    prefixKey: randomTensor([1, PREFIX, 2, 4], 4),
    prefixValue: randomTensor([1, PREFIX, 2, 3], 5),
  };
  for (const form of FORMS) await check(tensors, form);
  tf.dispose(tensors);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'without a prefix, or with all of it masked, it is BASED',
    run: () =>
      inAllForms(async ({ prefixKey, prefixValue, ...tokens }, form) => {
        const wanted = taylorAttention(tokens, { form });
        const prefixMask = tf.zeros([1, PREFIX]);
        const bare = prefixLinearAttention(tokens, { form });
        const masked = prefixLinearAttention({ ...tokens, prefixKey, prefixValue }, { form, prefixMask });
        for (const { output, state } of [bare, masked]) {
          await close(output, wanted.output, 1e-6);
          await close(state.memory, wanted.state.memory, 1e-6);
        }
        tf.dispose([prefixMask, ...[wanted, bare, masked].flatMap(({ output, state }) => [output, state.memory])]);
      }),
  },
  {
    title: 'a prefix that is read by the same projections counts twice for the tokens after it',
    run: () =>
      inAllForms(async ({ prefixKey: _k, prefixValue: _v, ...tokens }, form) => {
        const first = (tensor: tf.Tensor): tf.Tensor => tf.slice(tensor, [0, 0, 0, 0], [1, PREFIX, 2, tensor.shape[3]!]);
        const rest = (tensor: tf.Tensor): tf.Tensor => tf.slice(tensor, [0, PREFIX, 0, 0], [1, 10 - PREFIX, 2, tensor.shape[3]!]);
        const [given, wanted] = tf.tidy(() => {
          const once = prefixLinearAttention({ ...tokens, prefixKey: first(tokens.key), prefixValue: first(tokens.value) }, { form });
          const twice = taylorAttention(
            { query: first(tokens.query), key: first(tokens.key), value: first(tokens.value) },
            { form, state: taylorAttention({ query: first(tokens.query), key: first(tokens.key), value: first(tokens.value) }).state },
          );
          const after = taylorAttention(
            { query: rest(tokens.query), key: rest(tokens.key), value: rest(tokens.value) },
            { form, state: twice.state },
          );
          return [rest(once.output), after.output];
        }) as [tf.Tensor, tf.Tensor];
        await close(given, wanted);
        tf.dispose([given, wanted]);
      }),
  },
  {
    title: 'the order of the prefix does not matter',
    run: () =>
      inAllForms(async (tensors, form) => {
        const wanted = prefixLinearAttention(tensors, { form });
        const turned = { prefixKey: tf.reverse(tensors.prefixKey, 1), prefixValue: tf.reverse(tensors.prefixValue, 1) };
        const given = prefixLinearAttention({ ...tensors, ...turned }, { form });
        await close(given.output, wanted.output);
        await close(given.state.memory, wanted.state.memory);
        tf.dispose([turned, ...[wanted, given].flatMap(({ output, state }) => [output, state.memory])]);
      }),
  },
  {
    title: 'values of ones give ones',
    run: () =>
      inAllForms(async (tensors, form) => {
        const ones = { value: tf.onesLike(tensors.value), prefixValue: tf.onesLike(tensors.prefixValue) };
        const { output, state } = prefixLinearAttention({ ...tensors, ...ones }, { form });
        const wanted = tf.onesLike(output);
        await close(output, wanted);
        tf.dispose([ones, output, state.memory, wanted]);
      }),
  },
];

const shapes = (length: number): Required<PrefixTensors> => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
  prefixKey: tf.zeros([1, 3, 2, 4]),
  prefixValue: tf.zeros([1, 3, 2, 3]),
});

const badInputs: OpSubject['badInputs'] = [
  {
    title: 'a value of rank 3',
    argument: 'value',
    call: () => tidy(() => prefixLinearAttention({ ...shapes(2), value: tf.zeros([1, 2, 3]) })),
  },
  {
    title: 'a prefix of other heads',
    argument: 'prefixKey',
    call: () => tidy(() => prefixLinearAttention({ ...shapes(2), prefixKey: tf.zeros([1, 3, 1, 4]) })),
  },
  {
    title: 'keys of a prefix without values',
    argument: 'prefixValue',
    call: () =>
      tidy(() => {
        const { prefixValue: _, ...rest } = shapes(2);
        return prefixLinearAttention(rest);
      }),
  },
  {
    title: 'a mask of the prefix of another length',
    argument: 'prefixMask',
    call: () => tidy(() => prefixLinearAttention(shapes(2), { prefixMask: tf.ones([1, 2]) })),
  },
  {
    title: 'a state of full features for a symmetric call',
    argument: 'state.memory',
    call: () => tidy(() => prefixLinearAttention(shapes(2), { state: { memory: tf.zeros([1, 2, 21, 4]) } })),
  },
  { title: 'an epsilon of zero', argument: 'epsilon', call: () => tidy(() => prefixLinearAttention(shapes(2), { epsilon: 0 })) },
];

interface Variant {
  readonly symmetric: boolean;
  readonly maskKeys: 'after' | 'before';
  readonly group: number;
  readonly masked: boolean;
}

function subjectOf(name: string, { symmetric, maskKeys, group, masked }: Variant): OpSubject {
  const settings = { symmetric, maskKeys, epsilon: 1e-6 };
  const prefix = (seed: number): Record<string, Array64> => ({
    prefixKey: uniform64([2, PREFIX, 2, 3], seed, -2, 2),
    prefixValue: uniform64([2, PREFIX, 2, 3], seed + 1),
    // prefixes of five and of two tokens
    ...(masked ? { prefixMask: { shape: [2, PREFIX], data: Float64Array.of(1, 1, 1, 1, 1, 1, 1, 0, 0, 0) } } : {}),
  });
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2 * group, 3], seed, -2, 2),
    key: uniform64([2, length, 2, 3], seed + 1, -2, 2),
    value: uniform64([2, length, 2, 3], seed + 2),
    ...prefix(seed + 3),
    ...(masked ? { mask: { shape: [2, length], data: Float64Array.from({ length: 2 * length }, (_, i) => (i % 5 === 3 ? 0 : 1)) } } : {}),
    memory: memoryOf(seed + 6),
  });
  // a memory that tokens wrote, so that its normaliser is positive for every query
  const memoryOf = (seed: number): Array64 => {
    const tokens = { query: uniform64([2, 4, 2, 3], 1), key: uniform64([2, 4, 2, 3], seed), value: uniform64([2, 4, 2, 3], seed + 9) };
    const { shape, data } = naivePrefixLinearAttention(tokens, settings).memory;
    return { shape, data: data.map(Math.fround) };
  };
  return {
    card,
    name,
    inputs,
    degenerate,
    badInputs,
    lengths: masked ? [1, 7, 65] : [1, 7, 63, 65, 100],
    gradients: ['query', 'key', 'value', 'prefixKey', 'prefixValue', 'memory'],
    naive: (arrays: Arrays64) => naivePrefixLinearAttention(arrays as unknown as NaivePrefixInputs, settings) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (tensors) => {
          const { memory, mask, prefixMask, ...rest } = tensors as Record<string, tf.Tensor>;
          const { output, state } = prefixLinearAttention(rest as unknown as PrefixTensors, {
            form,
            symmetric,
            maskKeys,
            chunkSize: 16,
            state: { memory: memory! },
            ...(mask ? { mask } : {}),
            ...(prefixMask ? { prefixMask } : {}),
          });
          return { output, memory: state.memory };
        },
      ]),
    ),
    hard: [
      {
        title: 'logits of 1e4',
        inputs: () => mapArrays64(inputs(20, 3), { query: (value) => 5e3 * value }),
      },
    ],
  };
}

opLaws(subjectOf('jrt-prefix-linear-attention', { symmetric: true, maskKeys: 'after', group: 1, masked: false }));
opLaws(
  subjectOf('jrt-prefix-linear-attention, prefixes of their own length, padding, grouped heads, full features', {
    symmetric: false,
    maskKeys: 'after',
    group: 2,
    masked: true,
  }),
);
opLaws(
  subjectOf('jrt-prefix-linear-attention, padded keys zeroed before the features', {
    symmetric: true,
    maskKeys: 'before',
    group: 1,
    masked: true,
  }),
);

const INSIDE = 'tokens of the prefix see each other both ways; jrt-prefix-linear-attention.test.ts has the law for what comes after it';
const LAYERS: { name: string; config: Partial<PrefixLinearAttentionConfig>; prefix: boolean; dims: Record<string, number> }[] = [
  // a prefix of one token is the longest that is causal, so that every law applies
  { name: 'a prefix of one token', config: { prefixLength: 1 }, prefix: false, dims: { heads: 2, featureDim: 3, valueDim: 4 } },
  {
    name: 'a prefix of four tokens, full features, one key head',
    config: { prefixLength: 4, symmetric: false, keyHeads: 1 },
    prefix: true,
    dims: { heads: 1, featureDim: 3, valueDim: 4, symmetric: 0 },
  },
  { name: 'no prefix', config: { prefixLength: 0 }, prefix: false, dims: { heads: 2, featureDim: 3, valueDim: 4 } },
];
for (const { name, config, prefix, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `jrt-prefix-linear-attention, ${name}`,
    build: () => new PrefixLinearAttention({ dim: 8, heads: 2, featureDim: 3, seed: 3, ...config }),
    dims,
    // the law starts from a state, where no prefix is read; the gradient from a start is in jrt-prefix-linear-attention.test.ts
    unusedParameters: config.prefixLength === 0 ? [] : ['prefixKey.weight', 'prefixValue.weight'],
    ...(prefix ? { leaveOut: { 1: INSIDE, 4: INSIDE, 10: INSIDE } } : {}),
    badConfigs: [
      { build: () => new PrefixLinearAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new PrefixLinearAttention({ dim: 8, heads: 2, prefixLength: -1 }), argument: 'config.prefixLength' },
    ],
  });
}

// without a prefix the original vectors of BASED hold; those of the case `state` are not normalised, which this mechanism always is
goldenSuite({
  op: 'based',
  name: 'based, no prefix',
  folder: new URL('../../golden/based-taylor/based/', import.meta.url),
  cases: ['tiny', 'medium', 'hard'],
  run: ({ inputs }) => {
    // the vectors are laid out as [B, H, T, D]
    const first = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, [0, 2, 1, 3]);
    const tensors = { query: first(inputs['q']!), key: first(inputs['k']!), value: first(inputs['v']!) };
    return { o: first(prefixLinearAttention(tensors).output) };
  },
});
