import { linearAttentionUpdate, tidy } from '@seqloom/core';
import { formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { selectiveStateSpace } from '../mamba-s6/mamba-s6.ts';
import { card } from './card.ts';
import { chunkForm } from './chunk.ts';
import { Mamba2 } from './layer.ts';
import type { Mamba2Config } from './layer.ts';
import { stateSpaceDuality } from './mamba2-ssd.ts';
import type { DualitySettings, DualityTensors } from './mamba2-ssd.ts';
import { naiveStateSpaceDuality } from './naive.ts';
import type { NaiveDualityInputs, NaiveDualitySettings } from './naive.ts';
import { parallelForm } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;
const [HEADS, WIDTH, STATES] = [4, 2, 3];

const tensorsAt = (length: number, heads = HEADS, width = WIDTH): DualityTensors => ({
  input: randomTensor([2, length, heads, width], 1),
  delta: randomTensor([2, length, heads], 2),
  transition: randomTensor([heads], 3, -2, -0.1),
  inputMatrix: randomTensor([2, length, 1, STATES], 4),
  outputMatrix: randomTensor([2, length, 1, STATES], 5),
});

// compares the output of every form with what `wanted` makes of the tensors
async function inAllForms(tensors: DualityTensors, settings: DualitySettings, wanted: () => tf.Tensor): Promise<void> {
  const right = tf.tidy(wanted);
  for (const form of FORMS) {
    const { output, state } = stateSpaceDuality(tensors, { ...settings, form, chunkSize: 8 });
    expect(relativeError64(await output.data(), await right.data()), form).toBeLessThan(1e-5);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose([right, { ...tensors } as tf.NamedTensorMap]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a transition of zero gives linear attention with query C, key B and value delta x',
    run: async () => {
      const tensors = { ...tensorsAt(20), transition: tf.zeros([HEADS]) };
      await inAllForms(tensors, {}, () => {
        const shared = (matrix: tf.Tensor): tf.Tensor => tf.concat([matrix, matrix, matrix, matrix], 2);
        const value = tf.mul(tensors.input, tf.reshape(tf.softplus(tensors.delta), [2, 20, HEADS, 1]));
        const rows = { query: shared(tensors.outputMatrix), key: shared(tensors.inputMatrix), value };
        return linearAttentionUpdate(rows, { updateRule: 'linear', scale: 1 }).output;
      });
    },
  },
  {
    title: 'the same step at every token gives retention',
    run: async () => {
      const tensors = { ...tensorsAt(12), delta: tf.fill([2, 12, HEADS], 0.5) };
      const [b, c, x, a] = await Promise.all(
        [tensors.inputMatrix, tensors.outputMatrix, tensors.input, tensors.transition].map(async (part) => part.data()),
      );
      const output = new Float32Array(tensors.input.size);
      for (let row = 0; row < 2; row++) {
        for (let h = 0; h < HEADS; h++) {
          const gamma = Math.exp(0.5 * a![h]!);
          for (let i = 0; i < 12; i++) {
            for (let j = 0; j <= i; j++) {
              let score = 0;
              for (let n = 0; n < STATES; n++) score += c![(row * 12 + i) * STATES + n]! * b![(row * 12 + j) * STATES + n]!;
              for (let p = 0; p < WIDTH; p++) {
                const value = 0.5 * x![((row * 12 + j) * HEADS + h) * WIDTH + p]!;
                output[((row * 12 + i) * HEADS + h) * WIDTH + p]! += gamma ** (i - j) * score * value;
              }
            }
          }
        }
      }
      await inAllForms(tensors, { deltaSoftplus: false }, () => tf.tensor(output, tensors.input.shape));
    },
  },
  {
    title: 'a group per head with equal matrices is one group',
    run: async () => {
      const tensors = tensorsAt(9);
      const each = (part: tf.Tensor): tf.Tensor => tf.concat([part, part, part, part], 2);
      const grouped = { ...tensors, inputMatrix: each(tensors.inputMatrix), outputMatrix: each(tensors.outputMatrix) };
      await inAllForms(grouped, {}, () => stateSpaceDuality(tensors).output);
      tf.dispose([tensors.inputMatrix, tensors.outputMatrix]);
    },
  },
  {
    title: 'heads of one channel give the selective state space of Mamba',
    run: async () => {
      const tensors = tensorsAt(20, HEADS, 1);
      await inAllForms(tensors, {}, () => {
        const { output } = selectiveStateSpace({
          input: tf.reshape(tensors.input, [2, 20, HEADS]),
          delta: tensors.delta,
          transition: tf.add(tf.reshape(tensors.transition, [HEADS, 1]), tf.zeros([1, STATES])),
          inputMatrix: tensors.inputMatrix,
          outputMatrix: tensors.outputMatrix,
        });
        return tf.reshape(output, tensors.input.shape);
      });
    },
  },
];

interface Variant {
  readonly name: string;
  readonly groups: number;
  readonly settings: NaiveDualitySettings;
  readonly skip: readonly number[];
  readonly lengths?: readonly number[];
}

function subjectOf({ name, groups, settings, skip, lengths }: Variant): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    input: uniform64([2, length, HEADS, WIDTH], seed),
    delta: uniform64([2, length, HEADS], seed + 1, settings.deltaSoftplus ? -2 : 0.05, settings.deltaSoftplus ? 1 : 0.5),
    transition: uniform64([HEADS], seed + 2, -3, -0.1),
    inputMatrix: uniform64([2, length, groups, STATES], seed + 3),
    outputMatrix: uniform64([2, length, groups, STATES], seed + 4),
    memory: uniform64([2, HEADS, STATES, WIDTH], seed + 5),
    skip: uniform64(skip, seed + 6),
    ...(settings.deltaSoftplus
      ? { gate: uniform64([2, length, HEADS, WIDTH], seed + 7, -2, 2), deltaBias: uniform64([HEADS], seed + 8) }
      : {}),
  });
  const hard = (title: string, maps: Parameters<typeof mapArrays64>[1]) => ({ title, inputs: () => mapArrays64(inputs(20, 3), maps) });
  type Change = { readonly tensors?: Partial<DualityTensors>; readonly settings?: DualitySettings };
  const refused = (title: string, argument: string, change: () => Change) => ({
    title,
    argument,
    call: () =>
      tidy(() => {
        const { tensors, settings: given } = change();
        return stateSpaceDuality({ ...tensorsAt(2), ...tensors }, given);
      }),
  });
  return {
    card,
    name,
    inputs,
    degenerate,
    ...(lengths ? { lengths } : {}),
    gradients: Object.keys(inputs(1, 1)),
    naive: (arrays: Arrays64) => naiveStateSpaceDuality(arrays as unknown as NaiveDualityInputs, settings) as unknown as Arrays64,
    forms: formsOf(stateSpaceDuality, FORMS, { ...settings, chunkSize: 16 }),
    hard: [
      hard('steps before softplus of 100 and -100', { delta: (_, at) => (settings.deltaSoftplus && at % 2 > 0 ? -100 : 100) }),
      hard('a transition of -1000', { transition: () => -1000 }),
    ],
    badInputs: [
      refused('an input of rank 3', 'input', () => ({ tensors: { input: tf.zeros([2, 2, 4]) } })),
      refused('a step per channel', 'delta', () => ({ tensors: { delta: tf.zeros([2, 2, 8]) } })),
      refused('three groups for four heads', 'inputMatrix', () => ({
        tensors: { inputMatrix: tf.zeros([2, 2, 3, 3]), outputMatrix: tf.zeros([2, 2, 3, 3]) },
      })),
      refused('a state of another layout', 'state.memory', () => ({ settings: { state: { memory: tf.zeros([2, 4, 2, 3]) } } })),
      refused('limits that are crossed', 'deltaLimits', () => ({ settings: { deltaLimits: [2, 1] } })),
      refused('chunks of half a token', 'chunkSize', () => ({ settings: { chunkSize: 0.5 } })),
    ],
  };
}

const OPEN = { deltaSoftplus: true, deltaLimits: [0, Infinity] } as const;
// the first one also runs on WebGPU, where every new shape compiles its programs
opLaws(subjectOf({ name: 'mamba2-ssd', groups: 2, settings: OPEN, skip: [HEADS], lengths: [1, 20] }));
opLaws(
  subjectOf({
    name: 'mamba2-ssd, limited steps as given, skip per channel',
    groups: 4,
    settings: { deltaSoftplus: false, deltaLimits: [0.1, 0.4] },
    skip: [HEADS, WIDTH],
  }),
);

const SMALL = { innerDim: 8, headDim: 4, stateDim: 3 } as const;
const LAYERS: { name: string; config: Omit<Mamba2Config, 'dim'>; dims: Record<string, number> }[] = [
  { name: 'defaults', config: SMALL, dims: { heads: 2, headDim: 4, stateDim: 3 } },
  {
    name: 'norm before gate, groups, skip per channel, MLP, biases, recurrent',
    config: { ...SMALL, groups: 2, channelSkip: true, normBeforeGate: true, mlpDim: 3, bias: true, kernelSize: 2, form: 'recurrent' },
    dims: { heads: 2, headDim: 4, stateDim: 3, groups: 2, kernelSize: 2 },
  },
  {
    name: 'gate alone, limited steps',
    config: { ...SMALL, outputNorm: false, leastStep: 0.01, mostStep: 0.05, form: 'parallel' },
    dims: { heads: 2, headDim: 4, stateDim: 3 },
  },
  {
    name: 'without projection out, MLP, factors on the projected parts',
    config: { ...SMALL, mlpDim: 3, projectOutput: false, inputScales: [0.5, 2, -1, 1.5, 0.7] },
    dims: { heads: 2, headDim: 4, stateDim: 3 },
  },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `mamba2-ssd, ${name}`,
    build: () => new Mamba2({ dim: 8, seed: 3, ...config }),
    dims,
    badConfigs: [
      { build: () => new Mamba2({ dim: 8, innerDim: 8, headDim: 3 }), argument: 'config.headDim' },
      { build: () => new Mamba2({ dim: 8, innerDim: 8, headDim: 4, groups: 3 }), argument: 'config.groups' },
    ],
  });
}

const folder = (op: string): URL => new URL(`../../golden/mamba2-ssd/${op}/`, import.meta.url);
const swap = (memory: tf.Tensor): tf.Tensor => tf.transpose(memory, [0, 1, 3, 2]);

for (const form of FORMS) {
  goldenSuite({
    op: 'mamba2-ssd',
    name: `mamba2-ssd, ${form}`,
    folder: folder('mamba2-ssd'),
    run: ({ inputs }) => {
      const [batch, , heads, width] = inputs['X']!.shape as [number, number, number, number];
      const steps = {
        drive: inputs['X']!,
        logDecay: inputs['A']!,
        inputMatrix: inputs['B']!,
        outputMatrix: inputs['C']!,
        memory: inputs['initial_state'] ? swap(inputs['initial_state']) : tf.zeros([batch, heads, inputs['B']!.shape[3]!, width]),
      };
      const reads = form === 'chunk' ? chunkForm(steps, 16) : form === 'parallel' ? parallelForm(steps) : recurrentForm(steps);
      return { o: reads.output, final_state: swap(reads.memory) };
    },
  });
  for (const op of ['mamba2-ssd-combined', 'mamba2-step']) {
    goldenSuite({
      op,
      name: `${op}, ${form}`,
      folder: folder(op),
      run: ({ inputs, parameters }) => {
        const given = { ...inputs, ...parameters };
        const { output, state } = stateSpaceDuality(
          {
            input: given['x']!,
            delta: given['dt']!,
            transition: tf.neg(tf.exp(given['A_log']!)),
            inputMatrix: given['B']!,
            outputMatrix: given['C']!,
            ...(given['D'] ? { skip: given['D'] } : {}),
            ...(given['z'] ? { gate: given['z'] } : {}),
            ...(given['dt_bias'] ? { deltaBias: given['dt_bias'] } : {}),
          },
          { form, chunkSize: 16, ...(given['initial_state'] ? { state: { memory: swap(given['initial_state']) } } : {}) },
        );
        return { o: output, ...(op === 'mamba2-step' ? { final_state: swap(state.memory) } : {}) };
      },
    });
  }
}
