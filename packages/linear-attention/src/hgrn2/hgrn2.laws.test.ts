import { tidy } from '@seqloom/core';
import { expectSame, formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, paddingMask, randomTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { gatedLinearAttention } from '../gated-linear-attention/gated-linear-attention.ts';
import { hgrn } from '../hgrn/hgrn.ts';
import { card } from './card.ts';
import { hgrn2 } from './hgrn2.ts';
import type { Hgrn2Tensors } from './hgrn2.ts';
import { Hgrn2 } from './layer.ts';
import type { Hgrn2Config } from './layer.ts';
import { naiveHgrn2 } from './naive.ts';
import type { NaiveHgrn2Inputs } from './naive.ts';

const FORMS = ['chunk', 'recurrent'] as const;

const tokens = (keyDim = 4, valueDim = 3): { query: tf.Tensor; logDecay: tf.Tensor; value: tf.Tensor } => ({
  query: randomTensor([2, 10, 2, keyDim], 1),
  logDecay: randomTensor([2, 10, 2, keyDim], 2, -2, 0),
  value: randomTensor([2, 10, 2, valueDim], 3),
});

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'it is gated linear attention with the key 1 - f',
    run: async () => {
      for (const form of FORMS) {
        await expectSame(
          () => hgrn2(tokens(), { form }).output,
          () => {
            const { query, logDecay, value } = tokens();
            return gatedLinearAttention({ query, key: tf.sub(1, tf.exp(logDecay)), value, logDecay }).output;
          },
        );
      }
    },
  },
  {
    title: 'with one channel per head it is the elementwise recurrence of HGRN, times the query',
    run: async () => {
      for (const form of FORMS) {
        await expectSame(
          () => hgrn2(tokens(1, 1), { form }).output,
          () => {
            const { query, logDecay, value } = tokens(1, 1);
            const flat = (tensor: tf.Tensor): tf.Tensor => tf.reshape(tensor, [2, 10, 2]);
            const input = tf.mul(flat(value), tf.sub(1, tf.exp(flat(logDecay))));
            return tf.reshape(tf.mul(hgrn({ input, logDecay: flat(logDecay) }).output, flat(query)), [2, 10, 2, 1]);
          },
        );
      }
    },
  },
  {
    title: 'a forget gate of one writes nothing, and a gate of zero replaces the row by the value',
    run: async () => {
      for (const form of FORMS) {
        const memory = (): tf.Tensor => randomTensor([2, 2, 4, 3], 4);
        const { query, value } = tokens();
        await expectSame(
          () => hgrn2({ ...tokens(), logDecay: tf.zeros([2, 10, 2, 4]) }, { form, state: { memory: memory() } }).state.memory,
          memory,
        );
        await expectSame(
          () => hgrn2({ ...tokens(), logDecay: tf.fill([2, 10, 2, 4], -Infinity) }, { form, state: { memory: memory() } }).output,
          () => tf.mul(tf.mul(tf.sum(tokens().query, 3, true), 0.5), tokens().value),
        );
        tf.dispose([query, value]);
      }
    },
  },
];

const shapes = (length: number): Hgrn2Tensors => ({
  query: tf.zeros([1, length, 2, 4]),
  logDecay: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
});

function subjectOf(name: string, masked: boolean): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2, 4], seed),
    logDecay: uniform64([2, length, 2, 4], seed + 1, -1, 0),
    value: uniform64([2, length, 2, 3], seed + 2),
    memory: uniform64([2, 2, 4, 3], seed + 3),
    ...(masked ? { mask: paddingMask(length) } : {}),
  });
  const withDecay = (decay: (at: number) => number): Arrays64 => mapArrays64(inputs(20, 3), { logDecay: (_, at) => decay(at) });
  return {
    card,
    name,
    inputs,
    degenerate,
    lengths: masked ? [1, 7, 65] : [1, 7, 63, 65, 100],
    gradients: ['query', 'logDecay', 'value', 'memory'],
    naive: (arrays: Arrays64) => naiveHgrn2(arrays as unknown as NaiveHgrn2Inputs) as unknown as Arrays64,
    forms: formsOf(hgrn2, FORMS, { chunkSize: 16 }),
    hard: [
      { title: 'gates of exp(-100)', inputs: () => withDecay(() => -100) },
      { title: 'gates of exactly 1 beside exp(-20) and exp(-1e-6)', inputs: () => withDecay((at) => [0, -20, -1e-6][at % 3]!) },
    ],
    badInputs: [
      { title: 'a gate per head', argument: 'logDecay', call: () => tidy(() => hgrn2({ ...shapes(2), logDecay: tf.zeros([1, 2, 2]) })) },
      {
        title: 'a gate of another width',
        argument: 'logDecay',
        call: () => tidy(() => hgrn2({ ...shapes(2), logDecay: tf.zeros([1, 2, 2, 5]) })),
      },
      {
        title: 'a complement of another width',
        argument: 'write',
        call: () => tidy(() => hgrn2({ ...shapes(2), write: tf.zeros([1, 2, 2, 5]) })),
      },
      { title: 'a parallel form', argument: 'form', call: () => tidy(() => hgrn2(shapes(2), { form: 'parallel' as 'chunk' })) },
      {
        title: 'a state of other heads',
        argument: 'state.memory',
        call: () => tidy(() => hgrn2(shapes(2), { state: { memory: tf.zeros([1, 3, 4, 3]) } })),
      },
    ],
  };
}

opLaws(subjectOf('hgrn2', false));
opLaws(subjectOf('hgrn2, padding', true));

const LAYERS: { name: string; config: Omit<Hgrn2Config, 'dim'>; dims: Record<string, number> }[] = [
  { name: 'the first layer', config: { headDim: 4 }, dims: { heads: 2, keyDim: 4, valueDim: 4 } },
  { name: 'a layer with a lower bound', config: { headDim: 4, layer: 2, layers: 3 }, dims: { heads: 2, keyDim: 4, valueDim: 4 } },
  {
    name: 'short convolutions, expanded, recurrent',
    config: { heads: 2, headDim: 3, shortConvolution: true, kernelSize: 3, form: 'recurrent' },
    dims: { heads: 2, keyDim: 3, valueDim: 4, windowChannels: 20, kernelSize: 3 },
  },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `hgrn2, ${name}`,
    build: () => new Hgrn2({ dim: 8, seed: 3, ...config }),
    dims,
    badConfigs: [
      { build: () => new Hgrn2({ dim: 8 }), argument: 'config.headDim' },
      { build: () => new Hgrn2({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new Hgrn2({ dim: 8, heads: 2, layer: 1 }), argument: 'config.layer' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'hgrn2',
    name: `hgrn2, ${form}`,
    folder: new URL('../../golden/hgrn2/hgrn2/', import.meta.url),
    run: ({ inputs }) => {
      const { q, g, v, initial_state: memory } = inputs;
      // the vectors hold queries before their activation
      const tensors = { query: tf.mul(q!, tf.sigmoid(q!)), logDecay: g!, value: v! };
      const { output, state } = hgrn2(tensors, { form, ...(memory ? { state: { memory } } : {}) });
      return { o: output, final_state: state.memory };
    },
  });
}
