import { tidy } from '@seqloom/core';
import { expectCloseTo, goldenSuite, mapArrays64, mixerLaws, opLaws, opTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { card } from './card.ts';
import { hgrn, hgrnComplex } from './hgrn.ts';
import type { HgrnComplexTensors, HgrnTensors } from './hgrn.ts';
import { Hgrn } from './layer.ts';
import type { HgrnConfig } from './layer.ts';
import { naiveHgrn, naiveHgrnComplex } from './naive.ts';
import type { NaiveHgrnComplexInputs, NaiveHgrnInputs } from './naive.ts';

const FORMS = ['parallel', 'recurrent'] as const;

const full = (shape: readonly number[], value: number): Array64 => ({
  shape,
  data: new Float64Array(shape.reduce((a, b) => a * b, 1)).fill(value),
});

const realInputs = (length: number, seed: number): Record<string, Array64> => ({
  input: uniform64([2, length, 5], seed),
  logDecay: uniform64([2, length, 5], seed + 1, -2, 0),
  memory: uniform64([2, 5], seed + 2),
});

const complexInputs = (length: number, seed: number): Record<string, Array64> => ({
  ...realInputs(length, seed),
  inputImaginary: uniform64([2, length, 5], seed + 3),
  angle: uniform64([5], seed + 4, -3, 3),
  memoryImaginary: uniform64([2, 5], seed + 5),
});

// runs both forms and both ops on inputs, and holds the real output to what it should be
async function inAllForms(inputs: Record<string, Array64>, wanted: Array64): Promise<void> {
  const tensors = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, opTensor(array)]));
  const { memory, memoryImaginary, ...rest } = tensors as Record<string, tf.Tensor>;
  for (const form of FORMS) {
    const state = memory ? { state: { memory } } : {};
    const real = hgrn(rest as unknown as HgrnTensors, { form, ...state });
    await expectCloseTo(real.output, wanted, 1e-5, `real, ${form}`);
    tf.dispose([real.output, { ...real.state }]);
    if (!rest['angle']) continue;
    const both = hgrnComplex(rest as unknown as HgrnComplexTensors, {
      form,
      ...(memory ? { state: { memory, memoryImaginary: memoryImaginary! } } : {}),
    });
    await expectCloseTo(both.output, wanted, 1e-5, `complex, ${form}`);
    tf.dispose([both.output, both.outputImaginary, { ...both.state }]);
  }
  tf.dispose(tensors);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a log decay of 0 gives the running sum of the inputs',
    run: async () => {
      const input = uniform64([1, 9, 3], 1);
      const sums = { shape: input.shape, data: input.data.slice() };
      for (let at = 3; at < sums.data.length; at++) sums.data[at]! += sums.data[at - 3]!;
      await inAllForms({ input, logDecay: full([1, 9, 3], 0) }, sums);
    },
  },
  {
    title: 'a log decay of -10000 gives the inputs themselves',
    run: async () => {
      const input = uniform64([1, 9, 3], 1);
      await inAllForms({ input, logDecay: full([1, 9, 3], -1e4), memory: uniform64([1, 3], 2) }, input);
    },
  },
  {
    title: 'an input of (1 - f) c leaves a state of c where it is',
    run: async () => {
      const logDecay = uniform64([1, 9, 3], 3, -3, 0);
      const input = { shape: logDecay.shape, data: logDecay.data.map((a) => -0.75 * Math.expm1(a)) };
      await inAllForms({ input, logDecay, memory: full([1, 3], 0.75) }, full([1, 9, 3], 0.75));
    },
  },
  {
    title: 'angles of zero give the real form, for either part',
    run: async () => {
      const inputs: Record<string, Array64> = { ...complexInputs(9, 4), angle: full([5], 0) };
      const real = naiveHgrn(inputs as unknown as NaiveHgrnInputs).output;
      await inAllForms(inputs, real);
      // the parts exchanged: the imaginary one is a real recurrence of its own
      const exchanged = {
        ...inputs,
        input: inputs['inputImaginary']!,
        inputImaginary: inputs['input']!,
        memory: inputs['memoryImaginary']!,
        memoryImaginary: inputs['memory']!,
      };
      await inAllForms(exchanged, naiveHgrn(exchanged as unknown as NaiveHgrnInputs).output);
    },
  },
];

const hardCases = (inputs: (length: number, seed: number) => Record<string, Array64>): OpSubject['hard'] => [
  { title: 'a decay of exactly 1', inputs: () => ({ ...inputs(20, 3), logDecay: full([2, 20, 5], 0) }) },
  { title: 'log decays of -100', inputs: () => ({ ...inputs(20, 3), logDecay: full([2, 20, 5], -100) }) },
  {
    title: 'log decays of 0 and -1e4 in turn',
    inputs: () => mapArrays64(inputs(20, 3), { logDecay: (_, at) => (at % 3 === 0 ? -1e4 : 0) }),
  },
];

const zeros = (): HgrnTensors => ({ input: tf.zeros([1, 2, 3]), logDecay: tf.zeros([1, 2, 3]) });
const badInputs: OpSubject['badInputs'] = [
  { title: 'a log decay of rank 2', argument: 'logDecay', call: () => tidy(() => hgrn({ ...zeros(), logDecay: tf.zeros([1, 2]) })) },
  { title: 'no tokens', argument: 'input', call: () => tidy(() => hgrn({ ...zeros(), input: tf.zeros([1, 0, 3]) })) },
  {
    title: 'a state of another width',
    argument: 'state.memory',
    call: () => tidy(() => hgrn(zeros(), { state: { memory: tf.zeros([1, 4]) } })),
  },
  {
    title: 'a state for both directions',
    argument: 'state',
    call: () => tidy(() => hgrn(zeros(), { pattern: 'noncausal-self', state: { memory: tf.zeros([1, 3]) } })),
  },
  { title: 'a form that it has not', argument: 'form', call: () => tidy(() => hgrn(zeros(), { form: 'chunk' as 'parallel' })) },
  { title: 'a mask of another length', argument: 'mask', call: () => tidy(() => hgrn(zeros(), { mask: tf.ones([1, 3]) })) },
];

opLaws({
  card,
  inputs: realInputs,
  gradients: ['input', 'logDecay', 'memory'],
  naive: (arrays: Arrays64) => naiveHgrn(arrays as unknown as NaiveHgrnInputs) as unknown as Arrays64,
  forms: Object.fromEntries(
    FORMS.map((form) => [
      form,
      ({ memory, ...rest }: OpTensors) => {
        const { output, state } = hgrn(rest as unknown as HgrnTensors, { form, state: { memory: memory! } });
        return { output, ...state };
      },
    ]),
  ),
  hard: hardCases(realInputs)!,
  degenerate,
  badInputs,
});

opLaws({
  card,
  name: 'hgrn, complex',
  inputs: complexInputs,
  lengths: [1, 7, 65],
  gradients: ['input', 'inputImaginary', 'logDecay', 'angle', 'memory', 'memoryImaginary'],
  naive: (arrays: Arrays64) => naiveHgrnComplex(arrays as unknown as NaiveHgrnComplexInputs) as unknown as Arrays64,
  forms: Object.fromEntries(
    FORMS.map((form) => [
      form,
      ({ memory, memoryImaginary, ...rest }: OpTensors) => {
        const state = { memory: memory!, memoryImaginary: memoryImaginary! };
        const { state: after, ...outputs } = hgrnComplex(rest as unknown as HgrnComplexTensors, { form, state });
        return { ...outputs, ...after };
      },
    ]),
  ),
  hard: hardCases(complexInputs)!,
  degenerate,
  badInputs: [
    {
      title: 'an angle per token',
      argument: 'angle',
      call: () => tidy(() => hgrnComplex({ ...zeros(), inputImaginary: tf.zeros([1, 2, 3]), angle: tf.zeros([1, 2, 3]) })),
    },
  ],
});

const LAYERS: { name: string; config: Omit<HgrnConfig, 'dim'>; dims: Record<string, number> | null }[] = [
  { name: 'second of three layers', config: { layers: 3, layer: 1 }, dims: { width: 8 } },
  { name: 'with convolutions, no lower bound', config: { shortConvolution: true, expandRatio: 0.5 }, dims: { width: 4, taps: 3 } },
  { name: 'complex', config: { complex: true, layers: 2, layer: 1 }, dims: { width: 8, parts: 2 } },
  { name: 'noncausal-self', config: { pattern: 'noncausal-self' }, dims: null },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `hgrn, ${name}`,
    build: () => new Hgrn({ dim: 8, seed: 3, ...config }),
    ...(dims ? { dims } : {}),
    badConfigs: [
      { build: () => new Hgrn({ dim: 8, expandRatio: 0.3 }), argument: 'config.expandRatio' },
      { build: () => new Hgrn({ dim: 8, layer: 1 }), argument: 'config.layer' },
      { build: () => new Hgrn({ dim: 8, shortConvolution: true, pattern: 'noncausal-self' }), argument: 'config.shortConvolution' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'hgrn',
    name: `hgrn, ${form}`,
    folder: new URL('../../golden/hgrn/hgrn/', import.meta.url),
    run: ({ inputs: { x, g, initial_state: memory } }) => {
      const { output, state } = hgrn({ input: x!, logDecay: g! }, { form, ...(memory ? { state: { memory } } : {}) });
      return { o: output, final_state: state.memory };
    },
  });
}
