import { softmaxAttention } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpForm, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { memberCacheShapes, recentRouting } from './decode.ts';
import type { MemberCacheShape, RecentRoutingInputs } from './decode.ts';
import { RoutingAttention } from './layer.ts';
import type { RoutingAttentionConfig } from './layer.ts';
import { naiveRecentRouting, naiveRoutingAttention } from './naive.ts';
import type { NaiveRoutingInputs } from './naive.ts';
import { routingAttention } from './routing-transformer.ts';
import type { RoutingInputs, RoutingOptions } from './routing-transformer.ts';

const FORMS = ['gathered', 'parallel'] as const;
/** Feeds tokens to `recentRouting`: the first half at once, one, and the rest by sevens. */
function decode(inputs: OpTensors, window: number, shared: boolean): { output: tf.Tensor } {
  const { query, key, value, centroids, memoryKey, memoryValue } = inputs as unknown as RoutingInputs;
  const [batch, length, heads, headDim] = query.shape as [number, number, number, number];
  const cut = (x: tf.Tensor, from: number, count: number): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, count, -1, -1]);
  return tf.tidy(() => {
    const shapes = memberCacheShapes(batch, { clusters: centroids.shape[1]!, window, heads, headDim, valueDim: value.shape[3]! });
    const zeros = Object.entries(shapes).map(([name, shape]) => [name, tf.zeros(shape as number[])] as const);
    let state = { ...Object.fromEntries(zeros), position: tf.zeros([batch]) } as unknown as State;
    const outputs: tf.Tensor[] = [];
    for (let from = 0; from < length;) {
      const half = Math.ceil(length / 2);
      const count = from === 0 ? half : from === half ? 1 : Math.min(7, length - from);
      const tokens: RecentRoutingInputs = {
        query: cut(query, from, count),
        ...(shared ? {} : { key: cut(key, from, count) }),
        value: cut(value, from, count),
        ...{ centroids, memoryKey, memoryValue },
      };
      const result = recentRouting(tokens, state, { window });
      outputs.push(result.output);
      state = result.state;
      from += count;
    }
    return { output: tf.concat(outputs, 1) };
  });
}

const close = async (given: tf.Tensor, wanted: tf.Tensor, bound = 1e-5): Promise<void> => {
  expect(given.shape).toEqual(wanted.shape);
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(bound);
  tf.dispose([given, wanted]);
};

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'one cluster that holds every token is full attention',
    run: async () => {
      const inputs = { query: randomTensor([2, 9, 2, 4], 1), key: randomTensor([2, 9, 2, 4], 2), value: randomTensor([2, 9, 2, 4], 3) };
      const centroids = randomTensor([2, 1, 4], 4);
      for (const form of FORMS) {
        const output = tf.tidy(() => routingAttention({ ...inputs, centroids }, { window: 9, form }).output);
        // the mean over clusters divides by 1 + 1e-5
        await close(
          output,
          tf.tidy(() => tf.div(softmaxAttention(inputs).output, 1.00001)),
          1e-6,
        );
      }
      tf.dispose([inputs, centroids]);
    },
  },
  {
    title: 'one recent cluster with a long window is causal attention',
    run: async () => {
      const inputs = { query: randomTensor([2, 9, 2, 4], 1), key: randomTensor([2, 9, 2, 4], 2), value: randomTensor([2, 9, 2, 4], 3) };
      const centroids = randomTensor([2, 1, 4], 4);
      const { output } = decode({ ...inputs, centroids }, 9, false);
      await close(
        output,
        tf.tidy(() => softmaxAttention(inputs, { causal: true }).output),
      );
      tf.dispose([inputs, centroids]);
    },
  },
  {
    title: 'permuted tokens give permuted outputs',
    run: async () => {
      const inputs = { query: randomTensor([1, 12, 2, 4], 1), key: randomTensor([1, 12, 2, 4], 2), value: randomTensor([1, 12, 2, 4], 3) };
      const centroids = randomTensor([2, 3, 4], 4);
      const turn = (x: tf.Tensor): tf.Tensor => tf.reverse(x, 1);
      for (const form of FORMS) {
        const plain = tf.tidy(() => turn(routingAttention({ ...inputs, centroids }, { window: 4, form }).output));
        const turned = tf.tidy(() => {
          const other = { query: turn(inputs.query), key: turn(inputs.key), value: turn(inputs.value), centroids };
          return routingAttention(other, { window: 4, form }).output;
        });
        await close(turned, plain);
      }
      tf.dispose([inputs, centroids]);
    },
  },
  {
    title: 'a window of 1 with shared queries and keys gives the own value',
    run: async () => {
      const query = randomTensor([1, 7, 1, 4], 1);
      const value = randomTensor([1, 7, 1, 4], 2);
      const centroids = randomTensor([1, 2, 4], 4);
      // one token at a time: the newest of a cluster is the query itself
      await close(decode({ query, key: query, value, centroids }, 1, true).output, tf.clone(value));
      for (const form of FORMS) {
        const output = tf.tidy(
          () => routingAttention({ query, key: query, value, centroids }, { window: 1, sharedQueryKey: true, form }).output,
        );
        const held = await output.data();
        const own = await value.data();
        const tokens = Array.from({ length: 7 }, (_, t) => t).filter((t) => held[4 * t] !== 0);
        expect(tokens.length).toBeGreaterThan(0);
        for (const t of tokens) for (let d = 0; d < 4; d++) expect(Math.abs(held[4 * t + d]! - own[4 * t + d]!)).toBeLessThan(2e-5);
        output.dispose();
      }
      tf.dispose([query, value, centroids]);
    },
  },
];

function cacheOf(shape: MemberCacheShape): Record<string, tf.Tensor> {
  return Object.fromEntries(Object.entries(memberCacheShapes(1, shape)).map(([name, axes]) => [name, tf.zeros(axes as number[])]));
}

interface Variant {
  readonly name: string;
  readonly options: Omit<RoutingOptions, 'form'>;
  readonly memories: number;
  readonly recent?: boolean;
  readonly lengths: readonly number[];
}

function subject({ name, options, memories, recent = false, lengths }: Variant): OpSubject {
  const { window, sharedQueryKey = false } = options;
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, 2, 4], seed, -2, 2),
    key: uniform64([2, length, 2, 4], seed + 1, -2, 2),
    value: uniform64([2, length, 2, 3], seed + 2),
    centroids: uniform64([2, 3, 4], seed + 3),
    ...(memories > 0
      ? { memoryKey: uniform64([2, 3, memories, 4], seed + 4, -2, 2), memoryValue: uniform64([2, 3, memories, 3], seed + 5) }
      : {}),
  });
  const run =
    (form: (typeof FORMS)[number]): OpForm['run'] =>
    (tensors) => ({ output: tf.tidy(() => routingAttention(tensors as unknown as RoutingInputs, { ...options, form }).output) });
  const call =
    (change: () => Partial<RoutingInputs>, given: Partial<RoutingOptions> = {}) =>
    (): unknown =>
      tf.tidy(() => {
        const x = tf.zeros([1, 5, 1, 4]);
        return routingAttention({ query: x, key: x, value: x, centroids: tf.zeros([1, 2, 4]), ...change() }, { window: 3, ...given });
      });
  const recentCall = (given: number) => (): unknown =>
    tf.tidy(() => {
      const x = tf.zeros([1, 5, 1, 4]);
      const state = { ...cacheOf({ clusters: 2, window: 3, heads: 1, headDim: 4 }), position: tf.zeros([1]) } as unknown as State;
      return { ...recentRouting({ query: x, value: x, centroids: tf.zeros([1, 2, 4]) }, state, { window: given }).state };
    });
  const forms: OpSubject['forms'] = recent
    ? { decode: (tensors) => decode(tensors, window, sharedQueryKey) }
    : { gathered: run('gathered'), parallel: run('parallel') };
  return {
    card: { ...card, forms: ['naive', ...(Object.keys(forms) as ('decode' | 'gathered' | 'parallel')[])] },
    name: `routing-transformer, ${name}`,
    inputs,
    lengths,
    degenerate,
    gradients: ['query', 'key', 'value', 'memoryKey', 'memoryValue'].filter((input) => !(recent && sharedQueryKey && input === 'key')),
    naive: (arrays: Arrays64) => {
      const given = arrays as unknown as NaiveRoutingInputs;
      if (!recent) return naiveRoutingAttention(given, options) as unknown as Arrays64;
      return naiveRecentRouting(sharedQueryKey ? { ...given, key: given.query } : given, options) as unknown as Arrays64;
    },
    forms,
    hard: [
      { title: 'a single token', inputs: () => inputs(1, 5) },
      {
        title: 'logits of 1e4',
        // float32 keeps a logit of that size to 1e-3
        tolerance: 1e-3,
        inputs: () => mapArrays64(inputs(20, 3), { query: (value) => 5e3 * value }),
      },
    ],
    badInputs: [
      { title: 'recent members of no window', argument: 'settings.window', call: recentCall(0) },
      { title: 'a cache for another window', argument: 'state.member.key', call: recentCall(2) },
      { title: 'a key of another width', argument: 'key', call: call(() => ({ key: tf.zeros([1, 5, 1, 3]) })) },
      { title: 'centroids of other heads', argument: 'centroids', call: call(() => ({ centroids: tf.zeros([2, 2, 4]) })) },
      { title: 'clusters of no tokens', argument: 'options.window', call: call(() => ({}), { window: 0 }) },
      { title: 'causality without a memory', argument: 'memoryKey', call: call(() => ({}), { causal: true }) },
      { title: 'memories without values', argument: 'memoryValue', call: call(() => ({ memoryKey: tf.zeros([1, 2, 1, 4]) })) },
      {
        title: 'sharing with another sequence',
        argument: 'options.sharedQueryKey',
        call: call(() => ({ key: tf.zeros([1, 4, 1, 4]), value: tf.zeros([1, 4, 1, 4]) }), { sharedQueryKey: true }),
      },
    ],
  };
}

// below a few tokens shared keys hardly matter, so a relative error of their gradient would say nothing
opLaws(subject({ name: 'published, causal, memories', options: { window: 5, causal: true }, memories: 1, lengths: [1, 7, 65] }));
opLaws(
  subject({
    name: 'recent, shared queries and keys',
    options: { window: 4, sharedQueryKey: true },
    memories: 0,
    recent: true,
    lengths: [7, 65],
  }),
);
opLaws(subject({ name: 'recent, keys and memories', options: { window: 4 }, memories: 2, recent: true, lengths: [1, 7, 65] }));

for (const form of FORMS) {
  goldenSuite({
    op: 'routing-kmeans-attn',
    name: `routing-kmeans-attn, ${form}`,
    folder: new URL('../../golden/routing-transformer/routing-kmeans-attn/', import.meta.url),
    ...(form === 'parallel' ? { cases: ['noncausal', 'shared_qk', 'tiny'] } : {}),
    run: ({ inputs, parameters, buffers }, { config }) => {
      const settings = config as { window_size: number; causal: boolean; shared_qk?: boolean };
      // the vectors are laid out as [B, H, T, D]
      const first = (x: tf.Tensor): tf.Tensor => tf.transpose(x, [0, 2, 1, 3]);
      const { mem_key: memoryKey, mem_value: memoryValue } = parameters;
      const result = routingAttention(
        {
          query: first(inputs['q']!),
          key: first(inputs['k']!),
          value: first(inputs['v']!),
          centroids: buffers['kmeans.means']!,
          ...(memoryKey && memoryKey.size > 0 ? { memoryKey, memoryValue } : {}),
        },
        { window: settings.window_size, causal: settings.causal, sharedQueryKey: settings.shared_qk ?? false, form },
      );
      return { o: first(result.output), aux_loss: tf.reshape(result.commitmentLoss, [1]) };
    },
  });
}

const tiny = { dim: 8, heads: 2, clusters: 3, window: 3, localWindow: 4 };
const variants: [string, RoutingAttentionConfig][] = [
  ['causal, shared', tiny],
  ['causal, all heads routed, keys of their own', { ...tiny, localHeads: 0, sharedQueryKey: false, memories: 2 }],
  ['noncausal', { ...tiny, pattern: 'noncausal-self', memories: 1 }],
];

for (const [name, config] of variants) {
  const { clusters = 16, window = 64, heads, localHeads = heads >> 1, localWindow = 256 } = config;
  const noncausal = config.pattern === 'noncausal-self';
  mixerLaws({
    card,
    name: `routing-transformer, ${name}`,
    build: () => new RoutingAttention({ seed: 3, ...config }),
    ...(noncausal ? {} : { dims: { clusters, window, heads, localHeads, localWindow, headDim: 4 } }),
    unusedParameters: ['centroids'],
    // routing is a choice: a step must be smaller than the distance to the next one
    gradientStep: 2e-3,
    badConfigs: [
      { build: () => new RoutingAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new RoutingAttention({ dim: 8, heads: 2, localHeads: 2 }), argument: 'config.localHeads' },
      { build: () => new RoutingAttention({ dim: 8, heads: 2, sharedQueryKey: false, memories: 0 }), argument: 'config.memories' },
      { build: () => new RoutingAttention({ dim: 6, heads: 2 }), argument: 'config.rotary' },
      { build: () => new RoutingAttention({ dim: 8, heads: 2, centroidDecay: 2 }), argument: 'config.centroidDecay' },
    ],
  });
}
