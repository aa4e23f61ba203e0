import { linearAttentionUpdate, tidy } from '@seqloom/core';
import { goldenSuite, mixerLaws, opLaws, opTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { TitansNeuralMemory } from './layer.ts';
import { TitansMemoryAsContext } from './memory-as-context.ts';
import { TitansMemoryAsGate } from './memory-as-gate.ts';
import { TitansMemoryAsLayer } from './memory-as-layer.ts';
import { naiveTitans } from './naive.ts';
import { publishedTitansLinear } from './published-linear.ts';
import { publishedNeuralMemory } from './published-module.ts';
import type { PublishedMemoryState } from './published-module.ts';
import { titansNeuralMemory } from './titans-neural-memory.ts';
import type { TitansOptions } from './titans-neural-memory.ts';

interface Variant {
  /** widths of the network, first to last */
  readonly widths: readonly number[];
  readonly chunkSize: number;
  readonly activation: 'gelu' | 'silu';
  readonly norm: boolean;
  readonly momentum: boolean;
}

const [BATCH, HEADS] = [1, 2];

function arrays(variant: Variant, length: number, seed: number, changed: Readonly<Record<string, number>> = {}): Record<string, Array64> {
  const { widths, momentum, norm } = variant;
  const [dim, out] = [widths[0]!, widths.at(-1)!];
  const made: Record<string, Array64> = {
    query: uniform64([BATCH, length, HEADS, dim], seed),
    key: uniform64([BATCH, length, HEADS, dim], seed + 1),
    value: uniform64([BATCH, length, HEADS, out], seed + 2),
    // a norm blows up what decay has made small: weights that fade, or larger steps, would amplify rounding from token to token
    stepSize: uniform64([BATCH, length, HEADS], seed + 3, 0.01, norm ? 0.02 : 0.06),
    logDecay: uniform64([BATCH, length, HEADS], seed + 4, norm ? -0.02 : -0.5, 0),
  };
  if (momentum) made['logMomentum'] = uniform64([BATCH, length, HEADS], seed + 5, -2, -0.2);
  for (const [index, width] of widths.slice(0, -1).entries()) {
    const shape = [BATCH, HEADS, width, widths[index + 1]!];
    made[`weight${index + 1}`] = uniform64(shape, seed + 10 + index);
    if (momentum) made[`momentum${index + 1}`] = uniform64(shape, seed + 20 + index, -0.1, 0.1);
  }
  if (norm) {
    made['normWeight'] = uniform64([HEADS, dim], seed + 6, 0.5, 1.5);
    made['normBias'] = uniform64([HEADS, dim], seed + 7);
  }
  for (const [name, value] of Object.entries(changed)) made[name]?.data.fill(value);
  return made;
}

const layersOf = ({ widths }: Variant): number[] => widths.slice(1).map((_, index) => index + 1);

function naive(variant: Variant, given: Arrays64): Arrays64 {
  const { chunkSize, activation } = variant;
  const length = given.key!.shape[1]!;
  // row of index i of a flattened array
  const row = ({ data, shape }: Array64, i: number): Float64Array => data.slice(i * shape.at(-1)!, (i + 1) * shape.at(-1)!);
  const matrix = (array: Array64, h: number): Float64Array[] =>
    Array.from({ length: array.shape[2]! }, (_, i) => row(array, h * array.shape[2]! + i));
  const results = Array.from({ length: HEADS }, (_, h) => {
    const rows = (name: string): Float64Array[] => Array.from({ length }, (_, t) => row(given[name]!, t * HEADS + h));
    const gates = (name: string): Float64Array => Float64Array.from({ length }, (_, t) => given[name]!.data[t * HEADS + h]!);
    const weights = layersOf(variant).map((layer) => matrix(given[`weight${layer}`]!, h));
    const momenta = layersOf(variant).map((layer, index) =>
      given[`momentum${layer}`] ? matrix(given[`momentum${layer}`]!, h) : weights[index]!.map((values) => values.map(() => 0)),
    );
    const norm = given['normWeight'] ? { weight: row(given['normWeight'], h), bias: row(given['normBias']!, h) } : null;
    return naiveTitans(
      {
        query: rows('query'),
        key: rows('key'),
        value: rows('value'),
        stepSize: gates('stepSize'),
        logDecay: gates('logDecay'),
        logMomentum: given['logMomentum'] ? gates('logMomentum') : null,
      },
      { weights, momenta, references: weights },
      { chunkSize, activation, norm },
    );
  });
  const output = new Float64Array(given.value!.data.length);
  const width = given.value!.shape[3]!;
  for (const [h, result] of results.entries()) for (let t = 0; t < length; t++) output.set(result.output[t]!, (t * HEADS + h) * width);
  const all = (name: string, of: (head: number) => Float64Array[][]): Record<string, Array64> =>
    Object.fromEntries(
      layersOf(variant).map((layer, index) => [
        `${name}${layer}`,
        {
          shape: given[`weight${layer}`]!.shape,
          data: Float64Array.from(results.flatMap((_, h) => of(h)[index]!.flatMap((values) => [...values]))),
        },
      ]),
    );
  return {
    output: { shape: given.value!.shape, data: output },
    ...all('weight', (h) => results[h]!.weights),
    ...(variant.momentum ? all('momentum', (h) => results[h]!.momenta) : {}),
    ...all('reference', (h) => results[h]!.references),
  };
}

function run(variant: Variant, inputs: OpTensors, form: 'chunk' | 'recurrent'): Record<string, tf.Tensor> {
  const state = Object.fromEntries(Object.entries(inputs).filter(([name]) => /^(weight|momentum)\d/.test(name))) as TitansOptions['state'];
  const norm = inputs['normWeight'] ? { weight: inputs['normWeight'], bias: inputs['normBias']! } : undefined;
  const { chunkSize, activation } = variant;
  const tokens = { query: inputs.query!, key: inputs.key!, value: inputs.value!, stepSize: inputs.stepSize!, logDecay: inputs.logDecay! };
  const result = titansNeuralMemory({ ...tokens, logMomentum: inputs.logMomentum }, { state, norm, chunkSize, activation, form });
  return { output: result.output, ...result.state };
}

const linear: Variant = { widths: [3, 4], chunkSize: 4, activation: 'gelu', norm: false, momentum: true };
const single: Variant = { ...linear, chunkSize: 1 };

/** Runs the op on changed inputs, hands tensors and outputs to a check, and frees all. */
async function withOp(
  variant: Variant,
  changed: Readonly<Record<string, number>>,
  check: (outputs: Record<string, tf.Tensor>, inputs: Record<string, tf.Tensor>) => Promise<void>,
): Promise<void> {
  const inputs = Object.fromEntries(Object.entries(arrays(variant, 9, 5, changed)).map(([name, array]) => [name, opTensor(array)]));
  const outputs = run(variant, inputs, 'chunk');
  await check(outputs, inputs);
  tf.dispose([inputs, outputs]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a chunk of one token is the recurrence with a gradient at the weights before the token',
    run: () =>
      withOp(single, {}, async ({ output }, inputs) => {
        const other = run(single, inputs, 'recurrent');
        expect(relativeError64(await output!.data(), await other.output!.data())).toBeLessThan(1e-6);
        const chunked = run({ ...single, chunkSize: 9 }, inputs, 'recurrent');
        expect(relativeError64(await output!.data(), await chunked.output!.data())).toBeGreaterThan(1e-3);
        tf.dispose([other, chunked]);
      }),
  },
  {
    title: 'a linear memory without momentum and decay, in chunks of one token, is the delta rule',
    run: () =>
      withOp({ ...single, momentum: false }, { logDecay: 0 }, async ({ output, weight1 }, inputs) => {
        const rule = tidy(() =>
          linearAttentionUpdate(
            { query: inputs.query!, key: inputs.key!, value: inputs.value!, beta: tf.mul(inputs.stepSize!, 2), state: inputs.weight1! },
            { updateRule: 'delta', scale: 1 },
          ),
        );
        expect(relativeError64(await output!.data(), await rule.output.data())).toBeLessThan(1e-5);
        expect(relativeError64(await weight1!.data(), await rule.state.data())).toBeLessThan(1e-5);
        tf.dispose([rule.output, rule.state]);
      }),
  },
  {
    title: 'with a step size of 0 the output is the decayed first memory',
    run: () =>
      withOp({ ...linear, momentum: false }, { stepSize: 0, logDecay: -0.25 }, async ({ output }, inputs) => {
        const wanted = tidy(() => {
          const query = tf.transpose(inputs.query!, [0, 2, 1, 3]); // [B, H, T, D]
          const decay = tf.reshape(tf.exp(tf.mul(tf.range(1, 10), -0.25)), [1, 1, 9, 1]);
          return tf.transpose(tf.mul(decay, tf.matMul(query, inputs.weight1!)), [0, 2, 1, 3]);
        });
        expect(relativeError64(await output!.data(), await wanted.data())).toBeLessThan(1e-5);
        wanted.dispose();
      }),
  },
  {
    title: 'with a decay of 0 the memory is the momentum alone',
    run: () =>
      withOp(linear, { logDecay: -200 }, async ({ weight1, momentum1 }) => {
        expect(relativeError64(await weight1!.data(), await momentum1!.data())).toBeLessThan(1e-5);
      }),
  },
  {
    title: 'orthonormal keys, stored with a step size of a half, are recalled exactly',
    run: async () => {
      const error = tidy(() => {
        const key = tf.reshape(tf.eye(4), [1, 4, 1, 4]);
        const value = tf.randomNormal([1, 4, 1, 5], 0, 1, 'float32', 3);
        const zeros = tf.zeros([1, 4, 1]);
        const state = { weight1: tf.randomNormal([1, 1, 4, 5], 0, 1, 'float32', 4) };
        const stored = titansNeuralMemory(
          { query: key, key, value, stepSize: tf.fill([1, 4, 1], 0.5), logDecay: zeros },
          { state, chunkSize: 1 },
        );
        const read = titansNeuralMemory({ query: key, key, value, stepSize: zeros, logDecay: zeros }, { state: stored.state });
        return tf.max(tf.abs(tf.sub(read.output, value)));
      });
      expect((await error.data())[0]).toBeLessThan(1e-6);
      error.dispose();
    },
  },
];

function refused(changes: Partial<Record<'query' | 'stepSize' | 'weight1', number[]>>, options: object = {}): unknown {
  return tidy(() => {
    const shape = (name: 'query' | 'stepSize' | 'weight1', standard: number[]): tf.Tensor => tf.zeros(changes[name] ?? standard);
    const gates = tf.zeros([1, 2, 1]);
    return titansNeuralMemory(
      {
        query: shape('query', [1, 2, 1, 3]),
        key: tf.zeros([1, 2, 1, 3]),
        value: tf.zeros([1, 2, 1, 3]),
        stepSize: shape('stepSize', [1, 2, 1]),
        logDecay: gates,
      },
      { state: { weight1: shape('weight1', [1, 1, 3, 3]) }, ...options },
    );
  });
}

function subjectOf(name: string, variant: Variant, lengths?: number[]): OpSubject {
  return {
    card,
    name,
    degenerate,
    inputs: (length, seed) => arrays(variant, length, seed),
    gradients: Object.keys(arrays(variant, 1, 1)),
    lengths: lengths ?? [1, 7, 65],
    naive: (given) => naive(variant, given),
    forms: { chunk: (inputs) => run(variant, inputs, 'chunk'), recurrent: (inputs) => run(variant, inputs, 'recurrent') },
    hard: [
      { title: 'decays of e^-100 and momentum of e^-100', inputs: () => arrays(variant, 11, 3, { logDecay: -100, logMomentum: -100 }) },
      { title: 'decay and momentum of 1', inputs: () => arrays(variant, 11, 3, { logDecay: 0, logMomentum: 0 }) },
    ],
    badInputs: [
      { title: 'a query of rank 3', argument: 'query', call: () => refused({ query: [1, 2, 3] }) },
      { title: 'a step size per channel', argument: 'stepSize', call: () => refused({ stepSize: [1, 2, 3] }) },
      { title: 'weights of another width', argument: 'state.weight1', call: () => refused({ weight1: [1, 1, 4, 3] }) },
      { title: 'no weights', argument: 'state', call: () => refused({}, { state: {} }) },
      { title: 'an unknown form', argument: 'form', call: () => refused({}, { form: 'parallel' }) },
      { title: 'a chunk of nothing', argument: 'chunkSize', call: () => refused({}, { chunkSize: 0 }) },
      { title: 'an offset beyond the chunk', argument: 'offset', call: () => refused({}, { chunkSize: 4, offset: 4 }) },
    ],
  };
}

opLaws(subjectOf('titans-neural-memory, linear', linear));
opLaws(subjectOf('titans-neural-memory, two layers, gelu, norm', { ...linear, widths: [4, 5, 4], norm: true }, [1, 7, 21]));
opLaws(
  subjectOf(
    'titans-neural-memory, three layers, silu, no momentum',
    { ...linear, widths: [3, 4, 5, 2], activation: 'silu', momentum: false },
    [7, 21],
  ),
);

// the norm of few channels bends sharply
const bent = { gradientStep: 2e-3 };

mixerLaws({
  card,
  build: () => new TitansNeuralMemory({ dim: 8, heads: 2, expand: 1, chunkSize: 4, seed: 8 }),
  dims: { heads: 2, weights: 32, copies: 3, dim: 8, kernelSize: 4 },
  ...bent,
  length: 7,
  badConfigs: [
    { build: () => new TitansNeuralMemory({ dim: 4, heads: 3 }), argument: 'config.heads' },
    { build: () => new TitansNeuralMemory({ dim: 4, depth: 4 }), argument: 'config.depth' },
    { build: () => new TitansMemoryAsGate({ dim: 6, heads: 2, window: 3 }), argument: 'config.heads' },
    { build: () => new TitansMemoryAsContext({ dim: 4, heads: 2, segmentLength: 1 }), argument: 'config.segmentLength' },
  ],
});
// networks of several layers are above and with the op
const simple = { depth: 1, residualNorm: false } as const;

mixerLaws({
  card,
  name: 'titans-neural-memory as context',
  build: () => new TitansMemoryAsContext({ dim: 4, heads: 2, persistent: 1, segmentLength: 4, memory: simple, seed: 3 }),
  length: 6,
});
mixerLaws({
  card,
  name: 'titans-neural-memory as gate',
  build: () =>
    new TitansMemoryAsGate({
      dim: 4,
      heads: 2,
      persistent: 2,
      window: 3,
      memory: { ...simple, momentum: false, chunkSize: 3, kernelSize: null },
      seed: 8,
    }),
  length: 7,
});
mixerLaws({
  card,
  name: 'titans-neural-memory as layer, token by token',
  build: () =>
    new TitansMemoryAsLayer({
      dim: 4,
      heads: 2,
      persistent: 0,
      window: 3,
      memory: { ...simple, momentum: false, chunkSize: 1, kernelSize: null },
      seed: 8,
    }),
  length: 6,
});

goldenSuite({
  op: 'titans-linear',
  folder: new URL('../../golden/titans-neural-memory/titans-linear/', import.meta.url),
  run: ({ inputs, parameters }, { config }) => {
    const gate = (x: tf.Tensor): tf.Tensor => tf.reshape(x, x.shape.slice(0, 3));
    const { output, state } = publishedTitansLinear(
      {
        query: inputs['q']!,
        key: inputs['k']!,
        value: inputs['v']!,
        stepSize: gate(inputs['theta']!),
        logDecay: tf.log(tf.sub(1, gate(inputs['alpha']!))),
        logMomentum: tf.log(gate(inputs['eta']!)),
        weight: parameters['w']!,
        bias: parameters['b']!,
        memory: inputs['initial_state'],
      },
      { chunkSize: config['chunk_size'] as number, epsilon: config['eps'] as number },
    );
    return { o: output, final_state: state.memory };
  },
});

goldenSuite({
  op: 'titans-neural-memory',
  folder: new URL('../../golden/titans-neural-memory/titans-neural-memory/', import.meta.url),
  run: ({ inputs, parameters: given }, { config }) => {
    const map = (name: string): tf.Tensor => tf.transpose(given[`${name}.weight`]!); // theirs is [out, in]
    const gate = (name: string): { weight: tf.Tensor; bias: tf.Tensor } => ({ weight: map(name), bias: given[`${name}.bias`]! });
    const gamma = (name: string): tf.Tensor | undefined => given[name] && tf.squeeze(given[name], [1]);
    const several = given['retrieve_gate.0.weight'] !== undefined;
    const parameters = {
      retrieveNorm: given['retrieve_norm.weight']!,
      storeNorm: given['store_norm.weight']!,
      gamma: given['memory_model_parameters.0']!,
      weights: [1, 2, 3].flatMap((layer) => given[`memory_model_parameters.${layer}`] ?? []),
      query: map('to_queries'),
      key: map('to_keys'),
      value: map('to_values'),
      stepSize: gate('to_adaptive_step.0'),
      decay: gate('to_decay_factor.0'),
      momentum: config['momentum'] === false ? null : gate('to_momentum.0'),
      ...(several ? { gate: map('retrieve_gate.0'), combine: map('combine_heads') } : {}),
      queryGamma: gamma('q_norm.gamma'),
      keyGamma: gamma('k_norm.gamma'),
      outputGamma: gamma('multihead_rmsnorm.gamma'),
    };
    const settings = {
      chunkSize: config['chunk_size'] as number,
      batchSize: (config['batch_size'] as number | undefined) ?? null,
      maxStepSize: (config['default_step_transform_max_lr'] as number | undefined) ?? 1,
      maxGradientNorm: (config['max_grad_norm'] as number | undefined) ?? null,
    };
    const [batch, calls, length, dim] = inputs['seq']!.shape as [number, number, number, number];
    const outputs: tf.Tensor[] = [];
    let state: PublishedMemoryState | undefined;
    for (let call = 0; call < calls; call++) {
      const x = tf.reshape(tf.slice(inputs['seq']!, [0, call, 0, 0], [batch, 1, length, dim]), [batch, length, dim]);
      const result = publishedNeuralMemory(x, parameters, settings, state);
      outputs.push(result.output);
      state = result.state;
    }
    const named = (kind: string, [first, ...rest]: readonly tf.Tensor[], momentum: boolean): Record<string, tf.Tensor> => {
      const shown = (tensor: tf.Tensor): tf.Tensor => (momentum ? tf.expandDims(tensor, 0) : tensor);
      return Object.fromEntries([
        [`${kind}.norm.gamma`, shown(first!)],
        ...rest.map((tensor, index) => [`${kind}.model.weights.${index}`, shown(tensor)] as const),
      ]);
    };
    return {
      o: tf.stack(outputs, 1),
      ...named('final_weight', state!.weights, false),
      ...(state!.momenta.length > 0 ? named('final_momentum', state!.momenta, true) : {}),
    };
  },
});
