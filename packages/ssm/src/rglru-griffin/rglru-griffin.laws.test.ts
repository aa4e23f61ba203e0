import { tidy } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { parallelScan } from '../parallel-scan/parallel-scan.ts';
import { blockLinear } from './block-linear.ts';
import { card } from './card.ts';
import { GriffinRecurrence } from './layer.ts';
import type { GriffinRecurrenceConfig } from './layer.ts';
import { naiveRgLru } from './naive.ts';
import type { NaiveRgLruInputs } from './naive.ts';
import { rgLru } from './rglru-griffin.ts';
import type { RgLruSettings, RgLruTensors } from './rglru-griffin.ts';

const FORMS = ['chunk', 'recurrent'] as const;

const tensorsAt = (length: number): RgLruTensors => ({
  input: randomTensor([2, length, 3], 1),
  inputGate: randomTensor([2, length, 3], 2),
  recurrenceGate: randomTensor([2, length, 3], 3),
  decayParameter: randomTensor([3], 4),
});

// compares the output of every form with what `wanted` makes of the tensors
async function inAllForms(
  tensors: () => RgLruTensors,
  settings: () => RgLruSettings,
  wanted: (tensors: RgLruTensors) => tf.Tensor,
): Promise<void> {
  const right = tf.tidy(() => wanted(tensors()));
  for (const form of FORMS) {
    const output = tidy(() => rgLru(tensors(), { ...settings(), form }).output);
    expect(relativeError64(await output.data(), await right.data()), form).toBeLessThan(1e-6);
    output.dispose();
  }
  right.dispose();
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a closed recurrence gate freezes the state',
    run: () =>
      inAllForms(
        () => ({ ...tensorsAt(9), recurrenceGate: tf.fill([2, 9, 3], -200) }),
        () => ({ state: { hidden: randomTensor([2, 3], 5) } }),
        () => tf.add(tf.reshape(randomTensor([2, 3], 5), [2, 1, 3]), tf.zeros([2, 9, 3])),
      ),
  },
  {
    title: 'open gates give a linear recurrence with a constant decay',
    run: () =>
      inAllForms(
        () => ({ ...tensorsAt(9), inputGate: tf.fill([2, 9, 3], 200), recurrenceGate: tf.fill([2, 9, 3], 200) }),
        () => ({ state: { hidden: randomTensor([2, 3], 5) } }),
        ({ input, decayParameter }) => {
          const logDecay = tf.mul(tf.softplus(decayParameter), -8);
          const scale = tf.sqrt(tf.sub(1, tf.exp(tf.mul(logDecay, 2))));
          return parallelScan({ input: tf.mul(input, scale), logDecay }, { state: { hidden: randomTensor([2, 3], 5) } }).output;
        },
      ),
  },
  {
    title: 'a reset separates',
    run: () =>
      inAllForms(
        () => tensorsAt(9),
        () => ({ reset: tf.tensor2d([1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], [2, 9]) }),
        (tensors) => {
          const part = (at: number): tf.Tensor => {
            const [input, inputGate, recurrenceGate] = [tensors.input, tensors.inputGate, tensors.recurrenceGate].map(
              (tensor) => tf.split(tensor, [4, 5], 1)[at]!,
            ) as [tf.Tensor, tf.Tensor, tf.Tensor];
            return rgLru({ input, inputGate, recurrenceGate, decayParameter: tensors.decayParameter }).output;
          };
          return tf.concat([part(0), part(1)], 1);
        },
      ),
  },
  {
    title: 'the first token is taken in whole',
    run: () =>
      inAllForms(
        () => tensorsAt(1),
        () => ({}),
        ({ input, inputGate }) => tf.mul(input, tf.sigmoid(inputGate)),
      ),
  },
];

const flags = (length: number, seed: number, share: number): Array64 => {
  const { shape, data } = uniform64([2, length], seed, 0, 1);
  return { shape, data: data.map((value) => (value < share ? 1 : 0)) };
};

function subjectOf(name: string, kind: 'state' | 'start' | 'reset', lengths?: readonly number[]): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    input: uniform64([2, length, 3], seed),
    inputGate: uniform64([2, length, 3], seed + 1, -2, 2),
    recurrenceGate: uniform64([2, length, 3], seed + 2, -2, 2),
    decayParameter: uniform64([3], seed + 3, -5, 0),
    ...(kind === 'start' ? {} : { hidden: uniform64([2, 3], seed + 4) }),
    ...(kind === 'reset' ? { reset: flags(length, seed + 5, 0.1), mask: flags(length, seed + 6, 0.8) } : {}),
  });
  const hard = (title: string, maps: Parameters<typeof mapArrays64>[1]) => ({ title, inputs: () => mapArrays64(inputs(20, 3), maps) });
  return {
    card,
    name,
    inputs,
    degenerate,
    ...(lengths ? { lengths } : {}),
    gradients: ['input', 'inputGate', 'recurrenceGate', 'decayParameter', 'hidden'],
    naive: (arrays: Arrays64) => naiveRgLru(arrays as unknown as NaiveRgLruInputs) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (tensors) => {
          const { hidden, reset, mask, ...rest } = tensors as Record<string, tf.Tensor>;
          const { output, state } = rgLru(rest as unknown as RgLruTensors, {
            form,
            ...(hidden ? { state: { hidden } } : {}),
            ...(reset ? { reset } : {}),
            ...(mask ? { mask } : {}),
          });
          return { output, hidden: state.hidden };
        },
      ]),
    ),
    hard: [
      hard('gates of 100 and -100', {
        inputGate: (_, at) => (at % 2 === 0 ? 100 : -100),
        recurrenceGate: (_, at) => (at % 3 === 0 ? 100 : -100),
      }),
      hard('a decay so close to 1 that its square rounds to 1', { decayParameter: () => -18 }),
      hard('a decay of 0', { decayParameter: () => 100 }),
    ],
    badInputs: [
      { title: 'an input of rank 2', argument: 'input', call: () => tidy(() => rgLru({ ...tensorsAt(2), input: tf.zeros([2, 3]) })) },
      {
        title: 'a gate of another width',
        argument: 'recurrenceGate',
        call: () => tidy(() => rgLru({ ...tensorsAt(2), recurrenceGate: tf.zeros([2, 2, 4]) })),
      },
      {
        title: 'a state of another batch',
        argument: 'state.hidden',
        call: () => tidy(() => rgLru(tensorsAt(2), { state: { hidden: tf.zeros([3, 3]) } })),
      },
      { title: 'resets of another length', argument: 'reset', call: () => tidy(() => rgLru(tensorsAt(2), { reset: tf.zeros([2, 3]) })) },
    ],
  };
}

opLaws(subjectOf('rglru-griffin, from a state', 'state'));
opLaws(subjectOf('rglru-griffin, from the start', 'start', [1, 7, 65]));
opLaws(subjectOf('rglru-griffin, resets and padding', 'reset', [1, 7, 65]));

const LAYERS: { name: string; config: Omit<GriffinRecurrenceConfig, 'dim' | 'heads'>; dims: Record<string, number> }[] = [
  { name: 'defaults', config: {}, dims: { innerDim: 8 } },
  { name: 'another width, recurrent', config: { innerDim: 6, kernelSize: 2, form: 'recurrent' }, dims: { innerDim: 6, kernelSize: 2 } },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `rglru-griffin, ${name}`,
    build: () => new GriffinRecurrence({ dim: 8, heads: 2, seed: 3, ...config }),
    dims,
    badConfigs: [
      { build: () => new GriffinRecurrence({ dim: 8, heads: 3 }), argument: 'config.heads' },
      { build: () => new GriffinRecurrence({ dim: 8, heads: 2, decayMax: 1 }), argument: 'config.decayMax' },
    ],
  });
}

for (const form of FORMS) {
  goldenSuite({
    op: 'rg-lru',
    name: `rg-lru, ${form}`,
    folder: new URL('../../golden/rglru-griffin/rg-lru/', import.meta.url),
    run: ({ inputs, parameters }) => {
      const x = inputs['x']!;
      const start = inputs['initial_state'];
      const { output, state } = rgLru(
        {
          input: x,
          inputGate: blockLinear(x, parameters['input_gate_weight']!, parameters['input_gate_bias']!),
          recurrenceGate: blockLinear(x, parameters['recurrent_gate_weight']!, parameters['recurrent_gate_bias']!),
          decayParameter: parameters['recurrent_param']!,
        },
        { form, ...(start ? { state: { hidden: start } } : {}) },
      );
      return { o: output, final_state: state.hidden };
    },
  });
}
