import { DELTA_RULE_FORMS, deltaRuleGolden, deltaRuleSubject, goldenSuite, inBothForms, mixerLaws, opLaws } from '@seqloom/testing';
import type { Arrays64, DeltaRule, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { deltaRule } from '../delta-net/delta-net.ts';
import { gatedDeltaRule } from '../gated-delta-net/gated-delta-net.ts';
import { card } from './card.ts';
import { kimiDeltaAttention } from './kimi-delta-attention.ts';
import { KimiDeltaAttention } from './layer.ts';
import type { KimiDeltaAttentionConfig } from './layer.ts';
import { naiveKimiDeltaAttention } from './naive.ts';
import type { NaiveKimiDeltaInputs } from './naive.ts';

const rule: DeltaRule = {
  card,
  perChannel: true,
  op: kimiDeltaAttention,
  naive: (arrays: Arrays64) => naiveKimiDeltaAttention(arrays as unknown as NaiveKimiDeltaInputs) as unknown as Arrays64,
};

const zerosLike = (tensor: tf.Tensor): tf.Tensor => tf.zeros(tensor.shape);

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'with equal decays in all channels it is Gated DeltaNet',
    run: () =>
      inBothForms(
        rule,
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
        rule,
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
        rule,
        ({ beta }) => ({ beta: zerosLike(beta) }),
        ({ memory, logDecay }) => ({ memory: tf.mul(memory, tf.reshape(tf.exp(tf.sum(logDecay, 1)), [2, 2, 4, 1])) }),
      ),
  },
  {
    title: 'it is the diagonal-plus-low-rank recurrence with a = -beta k and b = alpha k',
    run: () =>
      inBothForms(
        rule,
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

opLaws(deltaRuleSubject(rule, { name: 'kimi-delta-attention', lengths: [1, 7, 65], degenerate }));
opLaws(deltaRuleSubject(rule, { name: 'kimi-delta-attention, beta up to 2, grouped values', group: 2, lengths: [7, 63, 100], degenerate }));

const LAYERS: { name: string; config: Omit<KimiDeltaAttentionConfig, 'dim' | 'heads'>; dims: Record<string, number> }[] = [
  { name: 'as published', config: {}, dims: { heads: 2, headDim: 4 } },
  {
    name: 'bounded gate, grouped values, negative eigenvalues, no convolution, no bias of the gate, token by token',
    config: {
      gateBias: false,
      lowestLogDecay: -5,
      valueHeads: 4,
      valueDim: 3,
      negativeEigenvalues: true,
      form: 'recurrent',
      kernelSize: 0,
    },
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

for (const form of DELTA_RULE_FORMS) {
  goldenSuite({
    op: 'kda',
    name: `kda, ${form}`,
    folder: new URL('../../golden/kimi-delta-attention/kda/', import.meta.url),
    run: deltaRuleGolden(rule, form),
  });
}
