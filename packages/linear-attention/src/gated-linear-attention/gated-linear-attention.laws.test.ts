import { tidy } from '@seqloom/core';
import { expectSame, formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, paddingMask, randomTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { linearAttention } from '../linear-attention/op.ts';
import { card } from './card.ts';
import { gatedLinearAttention } from './gated-linear-attention.ts';
import type { GatedLinearAttentionTensors } from './gated-linear-attention.ts';
import { GatedLinearAttention } from './layer.ts';
import type { GatedLinearAttentionConfig } from './layer.ts';
import { naiveGatedLinearAttention } from './naive.ts';
import type { NaiveGatedInputs } from './naive.ts';

const FORMS = ['chunk', 'recurrent'] as const;

const tokens = (length: number): { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor } => ({
  query: randomTensor([2, length, 2, 4], 1),
  key: randomTensor([2, length, 2, 4], 2),
  value: randomTensor([2, length, 2, 3], 3),
});

// what every form gives for ten tokens and these decays against what is wanted
async function inAllForms(logDecay: () => tf.Tensor, wanted: () => tf.Tensor): Promise<void> {
  for (const form of FORMS) await expectSame(() => gatedLinearAttention({ ...tokens(10), logDecay: logDecay() }, { form }).output, wanted);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'without decay it is plain causal linear attention',
    run: async () => {
      const plain = (): tf.Tensor => linearAttention(tokens(10), { featureMap: { name: 'identity' }, form: 'parallel' }).output;
      await inAllForms(() => tf.zeros([2, 10, 2, 4]), plain);
      await inAllForms(() => tf.zeros([2, 10, 2]), plain);
    },
  },
  {
    title: 'a constant decay, equal in all channels of a head, is retention: scores times gamma^(n - m)',
    run: async () => {
      const perHead = (): tf.Tensor => tf.reshape(tf.tensor1d([-0.3, -0.02]), [1, 1, 2]);
      const retention = (): tf.Tensor => {
        const [q, k, v] = Object.values(tokens(10)).map((tensor) => tf.transpose(tensor, [0, 2, 1, 3])) as [
          tf.Tensor,
          tf.Tensor,
          tf.Tensor,
        ];
        const places = tf.range(0, 10, 1, 'float32');
        const distance = tf.reshape(tf.sub(tf.expandDims(places, 1), tf.expandDims(places, 0)), [1, 1, 10, 10]);
        const lower = tf.cast(tf.greaterEqual(distance, 0), 'float32');
        const gammas = tf.mul(tf.exp(tf.mul(tf.mul(distance, lower), tf.reshape(perHead(), [1, 2, 1, 1]))), lower);
        return tf.transpose(tf.matMul(tf.mul(tf.mul(tf.matMul(q, k, false, true), 0.5), gammas), v), [0, 2, 1, 3]);
      };
      await inAllForms(() => tf.add(tf.zeros([2, 10, 2]), perHead()), retention);
      await inAllForms(() => tf.add(tf.zeros([2, 10, 2, 4]), tf.expandDims(perHead(), 3)), retention);
    },
  },
  {
    title: 'a decay of minus infinity in all channels forgets everything before',
    run: async () => {
      const reset = (shape: number[]): tf.Tensor =>
        tf.concat([tf.fill([2, 4, ...shape], -0.5), tf.fill([2, 1, ...shape], -Infinity), tf.fill([2, 5, ...shape], -0.5)], 1);
      const apart = (shape: number[]): tf.Tensor => {
        const pieces = [0, 4].map((start, i) => {
          const part = (tensor: tf.Tensor): tf.Tensor => tf.slice(tensor, [0, start, 0, 0], [2, [4, 6][i]!, ...tensor.shape.slice(2)]);
          const { query, key, value } = tokens(10);
          return gatedLinearAttention({
            query: part(query),
            key: part(key),
            value: part(value),
            logDecay: tf.fill([2, [4, 6][i]!, ...shape], -0.5),
          }).output;
        });
        return tf.concat(pieces, 1);
      };
      for (const shape of [[2], [2, 4]])
        await inAllForms(
          () => reset(shape),
          () => apart(shape),
        );
    },
  },
];

const shapes = (length: number): GatedLinearAttentionTensors => ({
  query: tf.zeros([1, length, 2, 4]),
  key: tf.zeros([1, length, 2, 4]),
  value: tf.zeros([1, length, 2, 3]),
  logDecay: tf.zeros([1, length, 2, 4]),
});

function subjectOf(name: string, { perChannel, group, masked }: { perChannel: boolean; group: number; masked: boolean }): OpSubject {
  const decayShape = (length: number): number[] => (perChannel ? [2, length, 2, 4] : [2, length, 2]);
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2 * group, 4], seed),
    key: uniform64([2, length, 2, 4], seed + 1),
    value: uniform64([2, length, 2, 3], seed + 2),
    logDecay: uniform64(decayShape(length), seed + 3, -1, 0),
    memory: uniform64([2, 2, 4, 3], seed + 4),
    ...(masked ? { mask: paddingMask(length) } : {}),
  });
  const withDecay = (decay: (at: number) => number): Arrays64 => mapArrays64(inputs(20, 3), { logDecay: (_, at) => decay(at) });
  return {
    card,
    name,
    inputs,
    degenerate,
    lengths: perChannel && !masked ? [1, 7, 63, 65, 100] : [1, 7, 65],
    gradients: ['query', 'key', 'value', 'logDecay', 'memory'],
    naive: (arrays: Arrays64) => naiveGatedLinearAttention(arrays as unknown as NaiveGatedInputs) as unknown as Arrays64,
    forms: formsOf(gatedLinearAttention, FORMS, { chunkSize: 16 }),
    hard: [
      { title: 'decays of -100 per token', inputs: () => withDecay(() => -100) },
      { title: 'decays of exactly 0 beside -20 and -1e-6', inputs: () => withDecay((at) => [0, -20, -Math.fround(1e-6)][at % 3]!) },
    ],
    badInputs: [
      {
        title: 'a value of rank 3',
        argument: 'value',
        call: () => tidy(() => gatedLinearAttention({ ...shapes(2), value: tf.zeros([1, 2, 3]) })),
      },
      {
        title: 'a key of another width',
        argument: 'key',
        call: () => tidy(() => gatedLinearAttention({ ...shapes(2), key: tf.zeros([1, 2, 2, 5]) })),
      },
      {
        title: 'decays per token',
        argument: 'logDecay',
        call: () => tidy(() => gatedLinearAttention({ ...shapes(2), logDecay: tf.zeros([1, 2]) })),
      },
      {
        title: 'a state of other heads',
        argument: 'state.memory',
        call: () => tidy(() => gatedLinearAttention(shapes(2), { state: { memory: tf.zeros([1, 3, 4, 3]) } })),
      },
      {
        title: 'chunks of half a token',
        argument: 'chunkSize',
        call: () => tidy(() => gatedLinearAttention(shapes(2), { chunkSize: 0.5 })),
      },
      {
        title: 'a parallel form',
        argument: 'form',
        call: () => tidy(() => gatedLinearAttention(shapes(2), { form: 'parallel' as 'chunk' })),
      },
      {
        title: 'a mask of another length',
        argument: 'mask',
        call: () => tidy(() => gatedLinearAttention(shapes(2), { mask: tf.ones([1, 3]) })),
      },
    ],
  };
}

opLaws(subjectOf('gated-linear-attention', { perChannel: true, group: 1, masked: false }));
opLaws(subjectOf('gated-linear-attention, decays per head, grouped heads, padding', { perChannel: false, group: 2, masked: true }));

const LAYERS: { name: string; config: Omit<GatedLinearAttentionConfig, 'dim' | 'heads'>; dims: Record<string, number> }[] = [
  { name: 'defaults', config: {}, dims: { heads: 2, keyDim: 2, valueDim: 4 } },
  {
    name: 'short convolutions, one key head, bounded decay, no gate',
    config: { shortConvolution: true, keyHeads: 1, headDim: 3, minimumLogDecay: -0.05, gateNormaliser: 8, outputGate: false },
    dims: { heads: 1, keyDim: 3, valueDim: 4, windowChannels: 13 },
  },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `gated-linear-attention, ${name}`,
    build: () => new GatedLinearAttention({ dim: 8, heads: 2, gateRank: 3, seed: 3, ...config }),
    dims,
    badConfigs: [
      { build: () => new GatedLinearAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new GatedLinearAttention({ dim: 8, heads: 2, keyHeads: 4 }), argument: 'config.keyHeads' },
      { build: () => new GatedLinearAttention({ dim: 8, minimumLogDecay: 1 }), argument: 'config.minimumLogDecay' },
    ],
  });
}

for (const { op, decay } of [
  { op: 'gla', decay: 'gk' },
  { op: 'simple-gla', decay: 'g' },
]) {
  for (const form of FORMS) {
    goldenSuite({
      op,
      name: `${op}, ${form}`,
      folder: new URL(`../../golden/gated-linear-attention/${op}/`, import.meta.url),
      run: ({ inputs }) => {
        const { q, k, v, initial_state: memory } = inputs;
        const tensors = { query: q!, key: k!, value: v!, logDecay: inputs[decay]! };
        const { output, state } = gatedLinearAttention(tensors, { form, ...(memory ? { state: { memory } } : {}) });
        return { o: output, final_state: state.memory };
      },
    });
  }
}
