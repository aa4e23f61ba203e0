import { DELTA_RULE_FORMS, deltaRuleGolden, deltaRuleSubject, goldenSuite, inBothForms, mixerLaws, opLaws } from '@seqloom/testing';
import type { Arrays64, DeltaRule, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { deltaRule } from '../delta-net/delta-net.ts';
import { card } from './card.ts';
import { gatedDeltaRule } from './gated-delta-net.ts';
import { GatedDeltaNet } from './layer.ts';
import type { GatedDeltaNetConfig } from './layer.ts';
import { naiveGatedDeltaRule } from './naive.ts';
import type { NaiveGatedDeltaInputs } from './naive.ts';

const rule: DeltaRule = {
  card,
  perChannel: false,
  op: gatedDeltaRule,
  naive: (arrays: Arrays64) => naiveGatedDeltaRule(arrays as unknown as NaiveGatedDeltaInputs) as unknown as Arrays64,
};

const zerosLike = (tensor: tf.Tensor): tf.Tensor => tf.zeros(tensor.shape);

const degenerate: OpSubject['degenerate'] = [
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
    title: 'with beta of zero the memory only decays',
    run: () =>
      inBothForms(
        rule,
        ({ beta }) => ({ beta: zerosLike(beta) }),
        ({ memory, logDecay }) => ({ memory: tf.mul(memory, tf.reshape(tf.exp(tf.sum(logDecay, 1)), [2, 2, 1, 1])) }),
      ),
  },
  {
    title: 'a decay of exp(-100) leaves the newest write alone',
    run: () =>
      inBothForms(
        rule,
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
        rule,
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

opLaws(deltaRuleSubject(rule, { name: 'gated-delta-net', lengths: [1, 7, 65], degenerate }));
opLaws(deltaRuleSubject(rule, { name: 'gated-delta-net, beta up to 2, grouped values', group: 2, degenerate }));

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

for (const form of DELTA_RULE_FORMS) {
  goldenSuite({
    op: 'gated-delta-rule',
    name: `gated-delta-rule, ${form}`,
    folder: new URL('../../golden/gated-delta-net/gated-delta-rule/', import.meta.url),
    run: deltaRuleGolden(rule, form),
  });
}
