import { readFile } from 'node:fs/promises';
import { deferParameters, disposeState, setupBackend, valueAndGradients } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { defaultComponents } from '../components.ts';
import { resolveHybridConfig } from '../config.ts';
import type { HybridConfig } from '../config.ts';
import { tinyShapes } from '../for-tests/tiny-shapes.ts';
import { HybridModel } from '../hybrid-model.ts';
import { layerDefinitions } from '../layers.ts';
import { architectures, publishedConfig, publishedNames } from './index.ts';

type Known = typeof architectures;

/** Mixers and channel mixers of a size, layer by layer. */
function layersOf(name: string): { mixers: string[]; channels: string[] } {
  const plan = layerDefinitions(resolveHybridConfig(publishedConfig(name)), defaultComponents);
  return { mixers: plan.map(({ mixerName }) => mixerName), channels: plan.map(({ channelName }) => channelName) };
}

const at = (names: readonly string[], name: string): number[] => [...names.keys()].filter((index) => names[index] === name);

const run = (config: HybridConfig): void => {
  const model = new HybridModel(config);
  const ids = tf.tensor2d([1, 5, 9, 2, 7, 7, 0, 3, 4, 10, 6, 1, 2, 8], [2, 7], 'int32');
  const { value, gradients } = valueAndGradients(
    () => model.loss(ids, ids, { training: true }).sum,
    model.parameters().map(({ variable }) => variable),
  );
  expect(Number.isFinite(value.dataSync()[0])).toBe(true);
  expect(gradients.every((gradient) => gradient?.dataSync().every(Number.isFinite) ?? true)).toBe(true);
  expect(gradients.filter((gradient) => gradient?.dataSync().some((g) => g !== 0)).length).toBeGreaterThan(gradients.length / 2);
  const whole = model.forward(ids);
  let { state } = model.forward(tf.slice(ids, [0, 0], [2, 3]));
  for (let token = 3; token < 7; token++) {
    const next = model.next(tf.slice(ids, [0, token], [2, 1]), { state });
    disposeState(state);
    state = next.state;
    const wanted = tf.slice(whole.logits, [0, token, 0], [2, 1, 11]).dataSync();
    next.logits.dataSync().forEach((logit, place) => expect(logit).toBeCloseTo(wanted[place]!, 4));
  }
  model.dispose();
  tf.disposeVariables();
};

beforeAll(async () => {
  await setupBackend('wasm', { kernels: [] });
});

describe('every published size', () => {
  it.each(publishedNames())('%s has the parameters that were published, and its config is plain JSON', (name) => {
    const [id, size] = name.split('/') as [keyof Known, string];
    const config = publishedConfig(name);
    expect(JSON.parse(JSON.stringify(config))).toEqual(config);
    const model = deferParameters(() => new HybridModel(config));
    expect(model.countParameters()).toBe(architectures[id].sizes[size]!.parameters);
    model.dispose();
  });
});

describe('the README', () => {
  it('has a row for every published size', async () => {
    const text = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
    const rows = text.split('\n').map((line) => line.split('|').map((cell) => cell.trim()));
    const told = new Map(rows.map(([, name, count]) => [name, count]));
    for (const name of publishedNames()) {
      const [id, size] = name.split('/') as [keyof Known, string];
      expect(told.get(`\`${name}\``), name).toBe(architectures[id].sizes[size]!.parameters.toLocaleString('en'));
    }
  });
});

describe('every architecture', () => {
  it.each(Object.keys(architectures) as (keyof Known)[])('%s learns in a small shape, and decodes from its state', (id) => {
    expect(architectures[id].id).toBe(id);
    run(architectures[id].config(tinyShapes[id] as never));
  });
});

describe('other forms of an architecture', () => {
  it.each<[string, HybridConfig]>([
    ['mamba', architectures['mamba-lm'].config({ layer: 'mamba', vocabSize: 11, dim: 8, depth: 2, stateDim: 4 })],
    ['memformer, gated', architectures.memformer.config({ ...tinyShapes.memformer, writer: 'gated' })],
    ['rat alone', architectures.rat.config({ vocabSize: 11, dim: 8, heads: 4, depth: 2, chunkSize: 3 })],
    ...(['gate', 'layer', 'memory'] as const).map((variant): [string, HybridConfig] => [
      `titans, ${variant}`,
      architectures['titans-models'].config({ ...tinyShapes['titans-models'], variant, window: 3, chunkSize: 4 }),
    ]),
  ])('%s learns in a small shape, and decodes from its state', (_name, config) => run(config));
});

describe('a name that does not exist', () => {
  it.each([
    ['gpt9', /one of transformer-pp\/340m, .*mamba-lm\/mamba2-2\.7b.*; got "gpt9"/],
    ['mamba-lm/7b', /one of mamba-lm\/mamba-130m, .*got "mamba-lm\/7b"/],
  ])('%s is refused with those that do', (name, message) => {
    expect(() => publishedConfig(name)).toThrow(message);
  });
});

describe('layers', () => {
  it('based has linear attention and windows where its releases have them', () => {
    expect(at(layersOf('based/360m').mixers, 'linear')).toEqual([1, 6, 11, 16, 21]);
    expect(at(layersOf('based/360m').mixers, 'window')).toEqual([2, 7, 12, 17, 22]);
    expect(at(layersOf('based/1.3b').mixers, 'linear')).toEqual([1, 6, 11, 16, 21, 27, 33]);
    expect(at(layersOf('based/1.3b').mixers, 'window')).toEqual([2, 7, 12, 17, 22, 28, 34]);
    expect(at(layersOf('based/1.3b').mixers, 'conv')).toHaveLength(22);
  });

  it('rat-swa alternates', () => {
    expect(at(layersOf('rat/swa-1.3b').mixers, 'local')).toEqual(Array.from({ length: 12 }, (_, index) => 2 * index + 1));
  });

  it('jamba attends in layers 4, 12, 20 and 28, and has experts in each second layer', () => {
    const { mixers, channels } = layersOf('jamba/v0.1');
    expect(at(mixers, 'attention')).toEqual([4, 12, 20, 28]);
    expect(at(channels, 'experts')).toEqual(Array.from({ length: 16 }, (_, index) => 2 * index + 1));
  });

  it('qwen3-next attends in each fourth layer, minimax in each eighth', () => {
    expect(at(layersOf('qwen3-next/80b-a3b').mixers, 'attention')).toEqual(Array.from({ length: 12 }, (_, index) => 4 * index + 3));
    expect(at(layersOf('minimax-text-01-m1/456b-a46b').mixers, 'attention')).toEqual([7, 15, 23, 31, 39, 47, 55, 63, 71, 79]);
  });

  it('transnormer has learned positions in its first layer, decays by layer, and the parameters of its formula', () => {
    const config = architectures['transnormer-llm'].config({ vocabSize: 64000, dim: 1024, depth: 24, heads: 8, hidden: 2816 });
    const model = deferParameters(() => new HybridModel(config));
    expect(model.countParameters()).toBe(2 * 64000 * 1024 + 24 * (5 * 1024 ** 2 + 3 * 1024 * 2816) + 1024);
    expect([...model.namedParameters().keys()].filter((name) => name.includes('angles'))).toEqual(['stack.layers.0.mixer.angles']);
    model.dispose();
    const plan = layerDefinitions(resolveHybridConfig(config), defaultComponents);
    expect(plan.map(({ mixer }) => [mixer['layer'], mixer['layers']])).toEqual(plan.map((_, index) => [index, 24]));
  });

  it('mamba has no channel mixers', () => {
    const { mixers, channels } = layersOf('mamba-lm/mamba-130m');
    expect(at(mixers, 'mamba')).toHaveLength(24);
    expect(at(channels, 'none')).toHaveLength(24);
  });
});
