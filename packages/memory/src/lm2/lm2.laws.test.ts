import { SlidingWindowAttention } from '@seqloom/attention';
import { tidy } from '@seqloom/core';
import { goldenSuite, mixerLaws, nestedByName, opLaws, opTensor, relativeError64, runEachRow, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import type { Affine, NormTensors } from '../dense.ts';
import { card } from './card.ts';
import { Lm2 } from './layer.ts';
import type { Lm2Config } from './layer.ts';
import { lm2Memory } from './lm2.ts';
import type { Lm2Parameters } from './lm2.ts';
import { naiveLm2Memory } from './naive.ts';
import type { NaiveLm2Parameters } from './naive.ts';
import { publishedLm2Memory } from './published.ts';

const DIM = 4;
const SLOTS = 3;
const SEGMENT = 5;

// [out] of every affine map, [D] of the norms
const WIDTHS: Readonly<Record<string, number>> = {
  'read.query': DIM,
  'read.key': DIM,
  'read.value': DIM,
  'read.gate': DIM,
  'write.query': DIM,
  'write.key': DIM,
  'write.value': DIM,
  'write.channel': DIM,
  'write.inputGate': 2 * DIM,
  'write.memoryGate': 2 * DIM,
};
const NORMS = ['write.attendedNorm', 'write.channelNorm'];

function arrays(length: number, seed: number, changed: Readonly<Record<string, number>> = {}): Record<string, Array64> {
  const made: Record<string, Array64> = {
    input: uniform64([2, length, DIM], seed, -2, 2),
    memory: uniform64([2, SLOTS, DIM], seed + 1),
  };
  let next = seed + 2;
  for (const [name, out] of Object.entries(WIDTHS)) {
    made[`${name}.weight`] = uniform64([DIM, out], next++);
    if (!name.endsWith('key')) made[`${name}.bias`] = uniform64([out], next++);
  }
  for (const name of NORMS) {
    made[`${name}.weight`] = uniform64([DIM], next++, 0.5, 1.5);
    made[`${name}.bias`] = uniform64([DIM], next++);
  }
  made['write.inputScale'] = uniform64([DIM], next++);
  made['write.inputBias'] = uniform64([], next++);
  made['write.forgetBias'] = uniform64([], next++, 0, 1);
  for (const [name, value] of Object.entries(changed)) made[name]!.data.fill(value);
  return made;
}

function naive(given: Arrays64, topK?: number): Arrays64 {
  const numbers = Object.fromEntries(
    Object.entries(given).map(([name, array]) => [name, array!.shape.length === 0 ? array!.data[0]! : array!.data]),
  );
  const parameters = nestedByName<Float64Array | number>(numbers) as unknown as NaiveLm2Parameters;
  const settings = { heads: 2, segmentLength: SEGMENT, ...(topK ? { topK } : {}) };
  return runEachRow(given, (tokens, memory) => naiveLm2Memory(tokens, memory, parameters, settings));
}

const run = (inputs: OpTensors, topK: number | null): Record<string, tf.Tensor> => {
  const parameters = nestedByName(inputs) as unknown as Lm2Parameters;
  const settings = { heads: 2, segmentLength: SEGMENT, topK };
  const { output, state } = lm2Memory({ input: inputs.input!, memory: inputs.memory! }, parameters, settings);
  return { output, memory: state.memory };
};

/** Runs the op with some inputs set to one value, hands inputs and outputs to a check, and frees all. */
async function withOp(
  changed: Readonly<Record<string, number>>,
  topK: number | null,
  check: (outputs: Record<string, Float32Array>, inputs: Record<string, tf.Tensor>) => void | Promise<void>,
): Promise<void> {
  const inputs = Object.fromEntries(Object.entries(arrays(12, 5, changed)).map(([name, array]) => [name, opTensor(array)]));
  const outputs = run(inputs, topK);
  const host = { output: (await outputs.output!.data()) as Float32Array, memory: (await outputs.memory!.data()) as Float32Array };
  await check(host, inputs);
  tf.dispose([inputs, outputs]);
}

const zeroGates = { 'write.inputGate.weight': 0, 'write.inputGate.bias': 0, 'write.memoryGate.weight': 0, 'write.memoryGate.bias': 0 };

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'with an input gate of 0 and a forget gate of 1 the memory stays as it is',
    run: () =>
      withOp({ ...zeroGates, 'write.inputBias': -100, 'write.forgetBias': 100 }, null, async ({ memory }, inputs) => {
        expect(relativeError64(memory!, await inputs.memory!.data())).toBe(0);
      }),
  },
  {
    title: 'with a read gate of 0 the output is 0',
    run: () =>
      withOp({ 'read.gate.weight': 0, 'read.gate.bias': -200 }, null, ({ output }) => {
        expect(Math.max(...output!.map(Math.abs))).toBe(0);
      }),
  },
  {
    title: 'slots that start alike stay alike',
    run: () =>
      withOp({ memory: 0.5 }, null, ({ memory }) => {
        for (let i = 0; i < SLOTS * DIM; i++) expect(memory![i]).toBeCloseTo(memory![i % DIM]!, 5);
      }),
  },
  {
    title: 'the best of as many slots as there are is all of them',
    run: () =>
      withOp({}, null, (all) =>
        withOp({}, SLOTS, (best) => {
          expect(relativeError64(best.output!, all.output!)).toBeLessThan(1e-6);
        }),
      ),
  },
];

function subjectOf(name: string, topK: number | null, lengths?: number[]): OpSubject {
  return {
    card,
    name,
    degenerate,
    inputs: (length, seed) => arrays(length, seed),
    gradients: topK === null ? Object.keys(arrays(1, 1)) : ['input', 'memory'],
    ...(lengths ? { lengths } : {}),
    naive: (given) => naive(given, topK ?? undefined),
    forms: { recurrent: (inputs) => run(inputs, topK) },
    hard: [
      {
        title: 'gates at 100 and -100',
        inputs: () => arrays(11, 3, { ...zeroGates, 'write.inputBias': 100, 'write.forgetBias': -100, 'read.gate.bias': 100 }),
      },
      {
        title: 'tokens of 1e3',
        // float32 keeps logits of that size to 1e-4
        tolerance: 1e-3,
        inputs: () => {
          const given = arrays(11, 3);
          given.input!.data.forEach((value, at, data) => (data[at] = Math.fround(1e3 * value)));
          return given;
        },
      },
    ],
    badInputs: [
      { title: 'an input of rank 2', argument: 'input', call: () => refused({}, { input: [2, 4] }) },
      { title: 'a memory of another width', argument: 'memory', call: () => refused({}, { memory: [1, 3, 5] }) },
      { title: 'heads that do not divide', argument: 'heads', call: () => refused({ heads: 3 }) },
      { title: 'a segment of nothing', argument: 'segmentLength', call: () => refused({ segmentLength: 0 }) },
      { title: 'more best slots than slots', argument: 'topK', call: () => refused({ topK: 4 }) },
    ],
  };
}

function refused(settings: object, shapes: { input?: number[]; memory?: number[] } = {}): unknown {
  const { input = [1, 2, 4], memory = [1, 3, 4] } = shapes;
  return tidy(() =>
    lm2Memory({ input: tf.zeros(input), memory: tf.zeros(memory) }, {} as Lm2Parameters, { heads: 2, segmentLength: 2, ...settings }),
  );
}

opLaws(subjectOf('lm2', null, [1, 7, 65]));
opLaws(subjectOf('lm2, best 2 slots', 2, [1, 7, 63]));

const badConfigs = [
  { build: () => new Lm2({ dim: 8, heads: 3, slots: 4, segmentLength: 4 }), argument: 'config.heads' },
  { build: () => new Lm2({ dim: 8, heads: 2, slots: 37, segmentLength: 4 }), argument: 'config.slots' },
  { build: () => new Lm2({ dim: 8, heads: 2, slots: 4, segmentLength: 4, topK: 5 }), argument: 'config.topK' },
];
// the rectifiers have kinks, and the choice of slots has jumps
const kinks = { gradientStep: 2e-4 };
const config: Lm2Config = { dim: 8, heads: 2, slots: 3, segmentLength: 4, seed: 3 };

mixerLaws({
  card: { ...card, decode: 'bounded-cache' },
  name: 'lm2 without attention',
  build: () => new Lm2({ ...config, dim: 4, slots: 2, attention: false }),
  dims: { dim: 4, slots: 2, segmentLength: 4, attention: 0 },
  badConfigs,
  ...kinks,
});
mixerLaws({
  card: { ...card, decode: 'bounded-cache' },
  name: 'lm2 beside a window, best 2 slots of more than the width',
  build: () =>
    new Lm2(
      { ...config, dim: 4, slots: 5, topK: 2, segmentLength: 5, seed: 4 },
      new SlidingWindowAttention({ dim: 4, heads: 2, window: 3 }),
    ),
  ...kinks,
});

goldenSuite({
  op: 'lm2-memory',
  folder: new URL('../../golden/lm2/lm2-memory/', import.meta.url),
  run: ({ inputs, parameters }, { config: settings }) => {
    const map = (name: string): Affine => ({
      weight: tf.transpose(parameters[`${name}.weight`]!), // theirs is [out, in]
      bias: parameters[`${name}.bias`]!,
    });
    const norm = (name: string): NormTensors => ({ weight: parameters[`${name}.weight`]!, bias: parameters[`${name}.bias`]! });
    const { output, state } = publishedLm2Memory(
      { input: inputs['inputs']!, memory: inputs['memory']! },
      {
        query: map('query_proj'),
        key: map('key_proj'),
        value: map('value_proj'),
        channel: map('attention_mlp.0'),
        attendedNorm: norm('attended_memory_layernorm'),
        channelNorm: norm('attended_memory_layernorm2'),
        inputScale: parameters['input_gate_projector.w']!,
        inputGate: map('input_gate_projector.linear'),
        memoryGate: map('memory_gate_projector.linear'),
        inputBias: parameters['input_bias']!,
        forgetBias: parameters['forget_bias']!,
      },
      {
        heads: (settings['num_heads'] as number | undefined) ?? 1,
        topK: settings['use_topk'] === true ? (settings['topk'] as number) : null,
        blocks: (settings['num_blocks'] as number | undefined) ?? 1,
      },
    );
    return { o: output, next_memory: state.memory };
  },
  ignoredGradients: { 'key_proj.bias': 'softmax does not see it: its gradient is zero, and what is left is rounding' },
});
