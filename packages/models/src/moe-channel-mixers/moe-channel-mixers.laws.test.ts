import { tidy } from '@seqloom/core';
import { array64, goldenSuite, opLaws, opTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { mixtureOfExperts, routeToExperts } from './moe-channel-mixers.ts';
import type { MixtureOptions } from './moe-channel-mixers.ts';
import { naiveExpert, naiveMixtureOfExperts } from './naive.ts';
import type { NaiveExpert, NaiveRouting } from './naive.ts';

interface Size {
  readonly dim: number;
  readonly experts: number;
  readonly hidden: number;
}

const BATCH = 2;
const SIZE: Size = { dim: 3, experts: 6, hidden: 4 };
const PLAIN: NaiveRouting = { topK: 2, score: 'softmax', groups: 1, groupTopK: 1, renormalise: true, scale: 1 };

function arrays({ dim, experts, hidden }: Size, length: number, seed: number, biased: boolean): Record<string, Array64> {
  return {
    input: uniform64([BATCH, length, dim], seed, -2, 2),
    router: uniform64([dim, experts], seed + 1, -2, 2),
    ...(biased && { selectionBias: uniform64([experts], seed + 2, -0.3, 0.3) }),
    gate: uniform64([experts, dim, hidden], seed + 3),
    up: uniform64([experts, dim, hidden], seed + 4),
    down: uniform64([experts, hidden, dim], seed + 5),
  };
}

const matrix = ({ data }: Array64, at: number, rows: number, columns: number): Float64Array[] =>
  Array.from({ length: rows }, (_, i) => data.slice(at + i * columns, at + (i + 1) * columns));

function expertsOf(given: Arrays64, { dim, experts, hidden }: Size): NaiveExpert[] {
  const { gate, up, down } = given as Record<string, Array64>;
  return Array.from({ length: experts }, (_, e) => ({
    gate: matrix(gate!, e * dim * hidden, dim, hidden),
    up: matrix(up!, e * dim * hidden, dim, hidden),
    down: matrix(down!, e * dim * hidden, hidden, dim),
  }));
}

function naive(size: Size, given: Arrays64, options: NaiveRouting, capacity?: number): Arrays64 {
  const { dim, experts } = size;
  const input = given['input']!;
  const tokens = matrix(input, 0, input.data.length / dim, dim);
  const bias = given['selectionBias']?.data ?? null;
  const places = capacity === undefined ? null : Math.ceil((capacity * tokens.length * options.topK) / experts);
  const router = matrix(given['router']!, 0, dim, experts);
  const rows = naiveMixtureOfExperts(tokens, router, bias, expertsOf(given, size), options, places);
  return {
    output: array64(
      input.shape,
      rows.flatMap((row) => [...row]),
    ),
  };
}

const run = (inputs: OpTensors, options: MixtureOptions): Record<string, tf.Tensor> => ({
  output: tidy(() => mixtureOfExperts(inputs as never, options).output),
});

const tensors = (given: Arrays64): Record<string, tf.Tensor> =>
  Object.fromEntries(Object.entries(given).map(([name, array]) => [name, opTensor(array!)]));

/** The dense layer of one expert on every token. */
const denseOf = (given: Arrays64, size: Size): number[] =>
  matrix(given['input']!, 0, given['input']!.data.length / size.dim, size.dim).flatMap((x) => [
    ...naiveExpert(x, expertsOf(given, size)[0]!),
  ]);

/** Holds the output for some inputs to given numbers. */
async function expectOutput(given: Arrays64, options: MixtureOptions, wanted: ArrayLike<number>): Promise<void> {
  const inputs = tensors(given);
  const { output } = run(inputs, options);
  expect(relativeError64(await output!.data(), wanted)).toBeLessThan(1e-5);
  tf.dispose([inputs, output!]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'one expert of one is a dense feed-forward layer',
    run: async () => {
      const size = { ...SIZE, experts: 1 };
      const given = arrays(size, 5, 1, false);
      for (const renormalise of [true, false]) await expectOutput(given, { topK: 1, renormalise }, denseOf(given, size));
    },
  },
  {
    title: 'equal experts with renormalised weights are a dense feed-forward layer',
    run: async () => {
      const given = arrays(SIZE, 5, 2, true);
      for (const name of ['gate', 'up', 'down']) {
        const { data } = given[name]!;
        data.forEach((_, i) => (data[i] = data[i % (SIZE.dim * SIZE.hidden)]!));
      }
      for (const score of ['softmax', 'sigmoid'] as const) await expectOutput(given, { topK: 3, score }, denseOf(given, SIZE));
    },
  },
  {
    title: 'all experts chosen, without renormalisation, are the soft mixture',
    run: async () => {
      const given = arrays(SIZE, 5, 3, false);
      const tokens = matrix(given['input']!, 0, 5 * BATCH, SIZE.dim);
      const router = matrix(given['router']!, 0, SIZE.dim, SIZE.experts);
      const mixed = tokens.flatMap((x) => {
        const raw = Array.from({ length: SIZE.experts }, (_, e) => Math.exp(router.reduce((sum, row, d) => sum + x[d]! * row[e]!, 0)));
        const total = raw.reduce((a, b) => a + b, 0);
        const outputs = expertsOf(given, SIZE).map((expert) => naiveExpert(x, expert));
        return Array.from({ length: SIZE.dim }, (_, d) => outputs.reduce((sum, output, e) => sum + (raw[e]! / total) * output[d]!, 0));
      });
      await expectOutput(given, { topK: SIZE.experts, renormalise: false }, mixed);
    },
  },
  {
    title: 'an expert with a huge bias is always chosen, and weights are those of its unbiased score',
    run: async () => {
      const logits = tf.randomNormal([9, 4], 0, 1, 'float32', 3);
      const bias = tf.tensor1d([0, 0, 100, 0]);
      const { experts, weights, scores } = routeToExperts(
        { logits, selectionBias: bias },
        { topK: 2, score: 'sigmoid', renormalise: false, scale: 2.5 },
      );
      const [ids, shares, all] = [await experts.data(), await weights.data(), await scores.data()];
      for (let n = 0; n < 9; n++) {
        expect(ids[2 * n]).toBe(2);
        for (const place of [2 * n, 2 * n + 1]) expect(shares[place]).toBeCloseTo(2.5 * all[4 * n + ids[place]!]!, 5);
      }
      tf.dispose([logits, bias, experts, weights, scores]);
    },
  },
  {
    title: 'with all groups kept there is no group limit',
    run: async () => {
      const given = arrays(SIZE, 9, 4, true);
      const without = naive(SIZE, given, { ...PLAIN, topK: 3 })['output']!.data;
      await expectOutput(given, { topK: 3, groups: 3, groupTopK: 3 }, without);
      await expectOutput(given, { topK: 3, groups: 2 }, without);
    },
  },
];

const zeros = (shapes: Record<string, number[]>, options: object): unknown =>
  tidy(() => {
    const all = { input: [1, 2, 3], router: [3, 4], gate: [4, 3, 2], up: [4, 3, 2], down: [4, 2, 3], ...shapes };
    const inputs = Object.fromEntries(Object.entries(all).map(([name, shape]) => [name, tf.zeros(shape)]));
    return mixtureOfExperts(inputs as never, { topK: 2, ...options }).output;
  });

function subjectOf(name: string, options: NaiveRouting, biased: boolean, capacity?: number): OpSubject {
  return {
    card,
    name,
    degenerate,
    inputs: (length, seed) => arrays(SIZE, length, seed, biased),
    gradients: ['input', 'router', 'gate', 'up', 'down'],
    lengths: [1, 7, 65],
    naive: (given) => naive(SIZE, given, options, capacity),
    forms: { gathered: (inputs) => run(inputs, { ...options, capacity }) },
    hard: [
      {
        // scores that underflow are ties in float32, and whoever wins one takes a place
        title: capacity === undefined ? 'logits of 1e3 and more' : 'logits of 40',
        inputs: () => {
          const given = arrays(SIZE, 9, 4, biased);
          const factor = capacity === undefined ? 1e3 : 5;
          given['router']!.data.forEach((value, i, data) => (data[i] = Math.fround(factor * value)));
          return given;
        },
      },
    ],
    badInputs: [
      { title: 'an input of rank 2', argument: 'input', call: () => zeros({ input: [2, 3] }, {}) },
      { title: 'a router of another width', argument: 'router', call: () => zeros({ router: [4, 4] }, {}) },
      { title: 'a bias of another length', argument: 'selectionBias', call: () => zeros({ selectionBias: [3] }, {}) },
      { title: 'matrices of too few experts', argument: 'gate', call: () => zeros({ gate: [3, 3, 2] }, {}) },
      { title: 'down as large as up', argument: 'down', call: () => zeros({ down: [4, 3, 2] }, {}) },
      { title: 'more choices than experts', argument: 'topK', call: () => zeros({}, { topK: 5 }) },
      { title: 'more choices than the kept groups have', argument: 'topK', call: () => zeros({}, { topK: 3, groups: 2, groupTopK: 1 }) },
      { title: 'groups of unequal size', argument: 'groups', call: () => zeros({}, { groups: 3 }) },
      { title: 'more groups kept than there are', argument: 'groupTopK', call: () => zeros({}, { groups: 2, groupTopK: 3 }) },
      { title: 'an unknown score', argument: 'score', call: () => zeros({}, { score: 'max' }) },
      { title: 'a capacity of 0', argument: 'capacity', call: () => zeros({}, { capacity: 0 }) },
    ],
  };
}

const SIGMOID: NaiveRouting = { topK: 2, score: 'sigmoid', groups: 3, groupTopK: 2, renormalise: true, scale: 2.5 };

opLaws(subjectOf('moe-channel-mixers, sigmoid with bias and groups', SIGMOID, true));
opLaws(subjectOf('moe-channel-mixers, softmax', { ...PLAIN, renormalise: false }, false));
opLaws(subjectOf('moe-channel-mixers, softmax with groups and a capacity', { ...PLAIN, groups: 2 }, false, 0.8));

goldenSuite({
  op: 'moe-router-deepseek',
  folder: new URL('../../golden/moe-channel-mixers/moe-router-deepseek/', import.meta.url),
  run: ({ inputs, parameters }, { config }) => {
    const score = config['score_func'] as 'softmax' | 'sigmoid';
    const logits = tf.matMul(inputs['x'] as tf.Tensor2D, tf.transpose(parameters['weight']!) as tf.Tensor2D);
    const { experts, weights } = routeToExperts(
      { logits, selectionBias: parameters['bias'] },
      {
        topK: config['n_activated_experts'] as number,
        score,
        groups: config['n_expert_groups'] as number,
        groupTopK: config['n_limited_groups'] as number,
        renormalise: score === 'sigmoid',
        scale: config['route_scale'] as number,
      },
    );
    const count = config['n_routed_experts'] as number;
    const hot = (ids: tf.Tensor): tf.Tensor => tf.cast(tf.oneHot(ids as tf.Tensor1D, count), 'float32');
    const dense = tf.sum(tf.mul(hot(experts), tf.expandDims(weights, 2)), 1);
    // theirs are in the order of the experts
    const sorted = tf.cast(tf.neg(tf.topk(tf.neg(tf.cast(experts, 'float32')), experts.shape[1]).values), 'int32');
    const bySorted = tf.sum(tf.mul(hot(sorted), tf.expandDims(dense, 1)), 2);
    return { dense, indices_sorted: sorted, weights_sorted_by_index: bySorted };
  },
});
