import { disposeState, setupBackend, valueAndGradients } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { defaultComponents } from './components.ts';
import type { HybridConfig } from './config.ts';
import { HybridModel } from './hybrid-model.ts';

// what a component needs beside heads, or instead of them
const configs: Record<string, Record<string, unknown>> = {
  'sliding-window-attention': { heads: 2, window: 4 },
  'gated-convolution': {},
  'multi-head-latent-attention': { heads: 2, latentDim: 4, contentDim: 4, rotaryDim: 2 },
  hgrn: {},
  'mamba-s6': {},
  'mamba2-ssd': { headDim: 4 },
  'short-causal-conv1d': {},
  'parallel-scan': {},
  s4d: {},
  's4d-s5-diagonal-ssm': {},
  'neighborhood-attention': { heads: 2, window: 3 },
  'transformer-xl-recurrence': { heads: 2, memoryLength: 4 },
  lm2: { heads: 2, slots: 3, segmentLength: 4 },
  memformer: { heads: 2, slots: 3, segmentLength: 4 },
  'titans-memory-as-context': { heads: 2, segmentLength: 4 },
  'titans-memory-as-gate': { heads: 2, window: 4 },
  'titans-memory-as-layer': { heads: 2, window: 4 },
  // the first piece holds the whole prefix
  'jrt-prefix-linear-attention': { heads: 2, prefixLength: 4 },
};
const ids = Object.keys(defaultComponents.mixers);

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

it('a memory layer in the place of an mlp learns', async () => {
  const model = new HybridModel({
    vocabSize: 11,
    dim: 8,
    mixers: ['attention'],
    channels: ['memory'],
    definitions: {
      attention: { type: 'mha-mqa-gqa', heads: 2 },
      memory: { type: 'memory-layers-at-scale', halfKeys: 4, topK: 2, heads: 2 },
    },
  });
  const ids = tf.tensor2d([1, 5, 9, 2, 7, 7], [1, 6], 'int32');
  const named = [...model.namedParameters()];
  const { value, gradients } = valueAndGradients(
    () => model.loss(ids, ids).sum,
    named.map(([, { variable }]) => variable),
  );
  expect(Number.isFinite(value.dataSync()[0])).toBe(true);
  const moved = named.filter((_, at) => gradients[at]?.dataSync().some((g) => g !== 0)).map(([name]) => name);
  expect(moved.filter((name) => /channel.*(table|values)/.test(name))).not.toEqual([]);
  model.dispose();
});

describe('a mixture of experts in the place of an mlp', () => {
  const config: HybridConfig = {
    vocabSize: 11,
    dim: 8,
    mixers: 'attention*2',
    channels: 'experts',
    definitions: {
      attention: { type: 'mha-mqa-gqa', heads: 2 },
      experts: { type: 'moe-channel-mixers', experts: 3, topK: 1, hidden: 4, auxiliary: { loadBalance: 0.5, zLoss: 0.1 } },
    },
  };

  it('adds its losses to a training loss, once per label', () => {
    const model = new HybridModel(config);
    const ids = tf.tensor2d([1, 5, 9, 2, 7, 7, 3, 3], [2, 4], 'int32');
    const added: number[] = [];
    const { logits, state } = model.forward(ids, {
      training: true,
      losses: { add: (_name, value) => void added.push(value.dataSync()[0]!) },
    });
    expect(added).toHaveLength(4);
    const sum = (training: boolean): number => tf.tidy(() => model.loss(ids, ids, { training }).sum.dataSync()[0]!);
    expect(sum(true) - sum(false)).toBeCloseTo(8 * added.reduce((total, value) => total + value, 0), 4);
    disposeState(state);
    logits.dispose();
    model.dispose();
  });

  it('costs a token its own experts alone', () => {
    const flops = (experts: number): number => {
      const model = new HybridModel({
        ...config,
        definitions: { ...config.definitions, experts: { ...config.definitions.experts!, experts } },
      });
      const count = model.flopsPerToken(1);
      model.dispose();
      return count;
    };
    // two layers, a row of the router more in each
    expect(flops(4) - flops(3)).toBe(2 * 2 * 8);
  });

  it('teaches its router by them', () => {
    const model = new HybridModel(config);
    const ids = tf.tensor2d([1, 5, 9, 2, 7, 7, 3, 3], [2, 4], 'int32');
    const named = [...model.namedParameters()].filter(([name]) => name.endsWith('router.weight'));
    const slopes = (training: boolean): number[] =>
      valueAndGradients(
        () => model.loss(ids, ids, { training }).sum,
        named.map(([, { variable }]) => variable),
      ).gradients.flatMap((gradient) => [...gradient!.dataSync()]);
    // one expert of one weight, renormalised: the task alone has no slope
    expect(Math.max(...slopes(false).map(Math.abs))).toBeLessThan(1e-6);
    expect(Math.max(...slopes(true).map(Math.abs))).toBeGreaterThan(1e-3);
    model.dispose();
  });
});

describe('every mixer by its name in a config', () => {
  it.each(ids)('%s learns, and decodes from its state', (id) => {
    const model = new HybridModel({
      vocabSize: 11,
      dim: 8,
      mixers: ['mixer'],
      definitions: { mixer: { type: id, ...(configs[id] ?? { heads: 2 }) }, mlp: { type: 'mlp' } },
      seed: 3,
    });
    const ids = tf.tensor2d([1, 5, 9, 2, 7, 7, 0, 3, 4, 10, 6, 1], [2, 6], 'int32');
    const { value, gradients } = valueAndGradients(
      () => model.loss(ids, ids).sum,
      model.parameters().map(({ variable }) => variable),
    );
    expect(Number.isFinite(value.dataSync()[0])).toBe(true);
    for (const gradient of gradients) expect(gradient?.dataSync().every(Number.isFinite) ?? true).toBe(true);
    expect(gradients.some((gradient) => gradient !== null && gradient.dataSync().some((g) => g !== 0))).toBe(true);
    const whole = model.forward(ids);
    const start = model.forward(tf.slice(ids, [0, 0], [2, 5]));
    const last = model.next(tf.slice(ids, [0, 5], [2, 1]), { state: start.state });
    const wanted = tf.slice(whole.logits, [0, 5, 0], [2, 1, 11]).dataSync();
    last.logits.dataSync().forEach((logit, at) => expect(logit).toBeCloseTo(wanted[at]!, 4));
    for (const state of [whole.state, start.state, last.state]) disposeState(state);
    model.dispose();
  });
});
