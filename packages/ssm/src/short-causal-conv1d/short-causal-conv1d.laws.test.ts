import { tidy } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { ShortCausalConv1d } from './layer.ts';
import type { ShortCausalConv1dConfig } from './layer.ts';
import { naiveShortCausalConv1d } from './naive.ts';
import type { NaiveConvolutionInputs } from './naive.ts';
import { shortCausalConv1d } from './short-causal-conv1d.ts';
import type { ConvolutionSettings, ConvolutionTensors } from './short-causal-conv1d.ts';

const FORMS = ['parallel', 'recurrent'] as const;

// compares the output of every form with what `wanted` makes of the input
async function inAllForms(weight: tf.Tensor, bias: tf.Tensor | undefined, wanted: (input: tf.Tensor) => tf.Tensor): Promise<void> {
  const input = randomTensor([2, 9, 3], 1);
  const right = tf.tidy(() => wanted(input));
  for (const form of FORMS) {
    const { output, state } = shortCausalConv1d({ input, weight, bias }, { form });
    expect(relativeError64(await output.data(), await right.data()), form).toBeLessThan(1e-6);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose([input, right, weight]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'one tap is a scale and a bias',
    run: async () => {
      const [weight, bias] = [randomTensor([3, 1], 2), randomTensor([3], 3)];
      await inAllForms(weight, bias, (input) => tf.add(tf.mul(input, tf.reshape(weight, [3])), bias));
      bias.dispose();
    },
  },
  {
    title: 'a last tap of one keeps the input',
    run: () => inAllForms(tf.tensor2d([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1], [3, 4]), undefined, (input) => tf.clone(input)),
  },
  {
    title: 'a first tap of one delays the input',
    run: () =>
      inAllForms(tf.tensor2d([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], [3, 4]), undefined, (input) =>
        tf.concat([tf.zeros([2, 3, 3]), tf.slice(input, [0, 0, 0], [2, 6, 3])], 1),
      ),
  },
];

interface Variant {
  readonly name: string;
  readonly taps: number;
  readonly activation: 'none' | 'silu';
  readonly bias: boolean;
  readonly padded: boolean;
  readonly lengths?: readonly number[];
}

function subjectOf({ name, taps, activation, bias, padded, lengths }: Variant): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    input: uniform64([2, length, 3], seed),
    weight: uniform64([3, taps], seed + 1),
    window: uniform64([2, taps - 1, 3], seed + 2),
    ...(bias ? { bias: uniform64([3], seed + 3) } : {}),
    ...(padded ? { lengths: { shape: [2], data: Float64Array.of(Math.ceil(length / 3), length) } } : {}),
  });
  const refused = (
    title: string,
    argument: string,
    change: () => { tensors?: Partial<ConvolutionTensors>; settings?: ConvolutionSettings },
  ) => ({
    title,
    argument,
    call: () =>
      tidy(() => {
        const { tensors, settings } = change();
        return shortCausalConv1d({ input: tf.zeros([2, 4, 3]), weight: tf.zeros([3, 4]), ...tensors }, settings);
      }),
  });
  return {
    card,
    name,
    inputs,
    degenerate,
    ...(lengths ? { lengths } : {}),
    gradients: ['input', 'weight', 'window', ...(bias ? ['bias'] : [])],
    naive: (arrays: Arrays64) => naiveShortCausalConv1d(arrays as unknown as NaiveConvolutionInputs, { activation }) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (tensors) => {
          const { window, lengths: valid, ...rest } = tensors as Record<string, tf.Tensor>;
          const settings = { form, activation, state: { window: window! }, ...(valid ? { lengths: valid } : {}) };
          const { output, state } = shortCausalConv1d(rest as unknown as ConvolutionTensors, settings);
          return { output, window: state.window };
        },
      ]),
    ),
    hard: [
      {
        title: 'sums of 1e4 and -1e4',
        inputs: () => mapArrays64(inputs(20, 3), { input: (value) => 1e4 * value }),
      },
    ],
    badInputs: [
      refused('an input of rank 2', 'input', () => ({ tensors: { input: tf.zeros([4, 3]) } })),
      refused('taps of other channels', 'weight', () => ({ tensors: { weight: tf.zeros([2, 4]) } })),
      refused('a window of K inputs', 'state.window', () => ({ settings: { state: { window: tf.zeros([2, 4, 3]) } } })),
      refused('an unknown activation', 'activation', () => ({ settings: { activation: 'relu' as 'silu' } })),
      refused('lengths of another batch', 'lengths', () => ({ settings: { lengths: tf.ones([3]) } })),
    ],
  };
}

opLaws(subjectOf({ name: 'short-causal-conv1d', taps: 4, activation: 'silu', bias: true, padded: false }));
opLaws(subjectOf({ name: 'short-causal-conv1d, padded rows', taps: 3, activation: 'silu', bias: true, padded: true, lengths: [1, 7, 65] }));
opLaws(
  subjectOf({ name: 'short-causal-conv1d, two taps alone', taps: 2, activation: 'none', bias: false, padded: false, lengths: [1, 7, 65] }),
);

const LAYERS: { name: string; config: Omit<ShortCausalConv1dConfig, 'dim'>; kernelSize: number }[] = [
  { name: 'defaults', config: {}, kernelSize: 4 },
  { name: 'residual, no bias, no activation', config: { kernelSize: 3, bias: false, activation: 'none', residual: true }, kernelSize: 3 },
  { name: 'one tap', config: { kernelSize: 1, outputDeviation: 1 }, kernelSize: 1 },
];
for (const { name, config, kernelSize } of LAYERS) {
  mixerLaws({
    card,
    name: `short-causal-conv1d, ${name}`,
    build: () => new ShortCausalConv1d({ dim: 8, seed: 3, ...config }),
    dims: { dim: 8, kernelSize },
    badConfigs: [{ build: () => new ShortCausalConv1d({ dim: 8, kernelSize: 0 }), argument: 'config.kernelSize' }],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'causal-conv1d',
    name: `causal-conv1d, ${form}`,
    folder: new URL('../../golden/short-causal-conv1d/causal-conv1d/', import.meta.url),
    run: ({ inputs, parameters }, { config }) => {
      const first = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, [0, 2, 1]);
      const start = inputs['initial_states'];
      const { output, state } = shortCausalConv1d(
        { input: first(inputs['x']!), weight: parameters['weight']!, bias: parameters['bias'] },
        { form, activation: config['activation'] === 'silu' ? 'silu' : 'none', ...(start ? { state: { window: first(start) } } : {}) },
      );
      return { o: first(output), final_states: first(state.window) };
    },
  });
}
