import { tidy } from '@seqloom/core';
import { mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { GatedImpulseRecurrence } from './layer.ts';
import { naiveParallelScan } from './naive.ts';
import type { NaiveScanInputs } from './naive.ts';
import { parallelScan } from './parallel-scan.ts';
import type { ScanResult, ScanSettings, ScanTensors } from './parallel-scan.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;

// compares the outputs of every form with what `wanted` makes of the input
async function inAllForms(
  run: (input: tf.Tensor, settings: ScanSettings) => ScanResult,
  wanted: (input: tf.Tensor) => tf.Tensor,
): Promise<void> {
  const input = randomTensor([2, 9, 3], 1);
  const right = tf.tidy(() => wanted(input));
  for (const form of FORMS) {
    const output = tidy(() => run(input, { form }).output);
    expect(relativeError64(await output.data(), await right.data()), form).toBeLessThan(1e-6);
    output.dispose();
  }
  tf.dispose([input, right]);
}

const decayAt = (length: number): tf.Tensor => randomTensor([2, length, 3], 2, 0.1, 1);

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a decay of one makes a cumulative sum',
    run: () =>
      inAllForms(
        (input, settings) => parallelScan({ input, decay: tf.ones([3]) }, settings),
        (input) => tf.cumsum(input, 1),
      ),
  },
  {
    title: 'a decay of zero keeps the input',
    run: () =>
      inAllForms(
        (input, settings) => parallelScan({ input, decay: tf.zeros([3]) }, settings),
        (input) => tf.clone(input),
      ),
  },
  {
    title: 'in reverse it is the reversed scan of the reversed sequence',
    run: () =>
      inAllForms(
        (input, settings) => parallelScan({ input, decay: decayAt(9) }, { ...settings, reverse: true }),
        (input) => tf.reverse(parallelScan({ input: tf.reverse(input, 1), decay: tf.reverse(decayAt(9), 1) }).output, 1),
      ),
  },
  {
    title: 'a reset separates',
    run: () =>
      inAllForms(
        (input, settings) => {
          const reset = tf.tensor2d([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], [2, 9]);
          return parallelScan({ input, decay: decayAt(9), reset }, settings);
        },
        (input) => {
          const parts = [input, decayAt(9)].map((part) => tf.split(part, [4, 5], 1)) as [tf.Tensor[], tf.Tensor[]];
          return tf.concat(
            [0, 1].map((part) => parallelScan({ input: parts[0][part]!, decay: parts[1][part]! }).output),
            1,
          );
        },
      ),
  },
  {
    title: 'a complex scan without imaginary parts is the real one',
    run: () =>
      inAllForms(
        (input, settings) => parallelScan({ input, decay: decayAt(9), decayImaginary: tf.zeros([2, 9, 3]) }, settings),
        (input) => parallelScan({ input, decay: decayAt(9) }).output,
      ),
  },
  {
    title: 'a decay in polar form is the one in parts',
    run: () => {
      const [sizes, angles] = [uniform64([2, 9, 3], 2, 0.1, 1), uniform64([2, 9, 1], 7, -3, 3)];
      // elementary functions of the host: those of GPUs have three digits
      const host = ({ shape, data }: Array64, of: (x: number) => number) => tf.tensor(Float32Array.from(data, of), [...shape]);
      return inAllForms(
        (input, settings) => parallelScan({ input, logDecay: host(sizes, Math.log), phase: host(angles, (x) => x) }, settings),
        (input) => {
          const size = host(sizes, (x) => x);
          const [decay, decayImaginary] = [Math.cos, Math.sin].map((of) => tf.mul(size, host(angles, of))) as [tf.Tensor, tf.Tensor];
          return parallelScan({ input, decay, decayImaginary }).output;
        },
      );
    },
  },
];

const badInputs: OpSubject['badInputs'] = [
  {
    title: 'an input of rank 2',
    argument: 'input',
    call: () => tidy(() => parallelScan({ input: tf.zeros([2, 3]), decay: tf.zeros([3]) })),
  },
  { title: 'no decay', argument: 'decay', call: () => tidy(() => parallelScan({ input: tf.zeros([1, 2, 3]) })) },
  {
    title: 'a decay of other channels',
    argument: 'decay',
    call: () => tidy(() => parallelScan({ input: tf.zeros([1, 2, 3]), decay: tf.zeros([4]) })),
  },
  {
    title: 'a phase beside a plain decay',
    argument: 'phase',
    call: () => tidy(() => parallelScan({ input: tf.zeros([1, 2, 3]), decay: tf.zeros([3]), phase: tf.zeros([3]) })),
  },
  {
    title: 'a real state for a complex scan',
    argument: 'state.hiddenImaginary',
    call: () =>
      tidy(() =>
        parallelScan(
          { input: tf.zeros([1, 2, 3]), logDecay: tf.zeros([3]), phase: tf.zeros([3]) },
          { state: { hidden: tf.zeros([1, 3]) } },
        ),
      ),
  },
  {
    title: 'resets of another length',
    argument: 'reset',
    call: () => tidy(() => parallelScan({ input: tf.zeros([1, 2, 3]), decay: tf.zeros([3]), reset: tf.zeros([1, 3]) })),
  },
];

// runs a form on arrays that bear the specification's names
function formsOf(complex: boolean, reverse: boolean): OpSubject['forms'] {
  return Object.fromEntries(
    FORMS.map((form) => [
      form,
      (tensors) => {
        const { hidden, hiddenImaginary, mask, ...rest } = tensors as Record<string, tf.Tensor>;
        const state = { hidden: hidden!, ...(complex ? { hiddenImaginary: hiddenImaginary! } : {}) };
        const result = parallelScan(rest as unknown as ScanTensors, { form, reverse, state, ...(mask ? { mask } : {}) });
        const { output, outputImaginary, state: last } = result;
        return { output, hidden: last.hidden, ...(complex ? { outputImaginary, hiddenImaginary: last.hiddenImaginary } : {}) };
      },
    ]),
  );
}

const real = (length: number, seed: number): Record<string, Array64> => ({
  decay: uniform64([2, length, 3], seed, -1, 1),
  input: uniform64([2, length, 3], seed + 1),
  hidden: uniform64([2, 3], seed + 2),
});

const flags = (length: number, seed: number, share: number): Array64 => {
  const { shape, data } = uniform64([2, length], seed, 0, 1);
  return { shape, data: data.map((value) => (value < share ? 1 : 0)) };
};

// what naive gives of a real recurrence
const realParts = (arrays: NaiveScanInputs, reverse: boolean): Arrays64 => {
  const { output, hidden } = naiveParallelScan(arrays, { reverse });
  return { output, hidden };
};

opLaws({
  card,
  name: 'parallel-scan, real',
  inputs: real,
  gradients: ['decay', 'input', 'hidden'],
  naive: (arrays) => realParts(arrays as unknown as NaiveScanInputs, false),
  forms: formsOf(false, false),
  degenerate,
  badInputs,
  hard: [
    {
      title: 'decays of 0, 1 and 1e-30',
      inputs: () => mapArrays64(real(40, 3), { decay: (_, at) => [0, 1, 1e-30][at % 3]! }),
    },
  ],
});

opLaws({
  card,
  name: 'parallel-scan, complex',
  inputs: (length, seed) => ({
    ...real(length, seed),
    decay: uniform64([2, length, 3], seed, -0.7, 0.7),
    decayImaginary: uniform64([2, length, 3], seed + 3, -0.7, 0.7),
    inputImaginary: uniform64([2, length, 3], seed + 4),
    hiddenImaginary: uniform64([2, 3], seed + 5),
  }),
  gradients: ['decay', 'decayImaginary', 'input', 'inputImaginary', 'hidden', 'hiddenImaginary'],
  naive: (arrays) => naiveParallelScan(arrays as unknown as NaiveScanInputs, { reverse: false }) as unknown as Arrays64,
  forms: formsOf(true, false),
  degenerate,
  lengths: [1, 7, 65],
});

opLaws({
  card,
  name: 'parallel-scan, log decays, resets, padding, reverse',
  inputs: (length, seed) => {
    const { decay: _, ...rest } = real(length, seed);
    return {
      ...rest,
      logDecay: uniform64([2, length, 1], seed + 6, -2, 0),
      reset: flags(length, seed + 7, 0.1),
      mask: flags(length, seed + 8, 0.8),
    };
  },
  gradients: ['logDecay', 'input', 'hidden'],
  naive: (arrays) => {
    const { logDecay, ...rest } = arrays as unknown as NaiveScanInputs & { readonly logDecay: Array64 };
    const decay = { shape: rest.input.shape, data: rest.input.data.map((__, at) => Math.exp(logDecay.data[Math.floor(at / 3)]!)) };
    return realParts({ ...rest, decay }, true);
  },
  forms: formsOf(false, true),
  degenerate,
  lengths: [1, 7, 65],
  hard: [
    {
      title: 'log decays of -100 and 0',
      inputs: () => ({
        input: uniform64([2, 40, 3], 1),
        hidden: uniform64([2, 3], 2),
        logDecay: { shape: [2, 40, 1], data: Float64Array.from({ length: 80 }, (__, at) => (at % 3 === 0 ? -100 : 0)) },
        reset: flags(40, 4, 0.1),
        mask: flags(40, 5, 0.8),
      }),
    },
  ],
});

for (const form of ['chunk', 'parallel'] as const) {
  mixerLaws({
    card,
    name: `parallel-scan, gated impulse recurrence, ${form}`,
    build: () => new GatedImpulseRecurrence({ dim: 8, innerDim: 6, seed: 3, form }),
    dims: { innerDim: 6 },
    badConfigs: [{ build: () => new GatedImpulseRecurrence({ dim: 8, innerDim: 0 }), argument: 'config.innerDim' }],
  });
}
