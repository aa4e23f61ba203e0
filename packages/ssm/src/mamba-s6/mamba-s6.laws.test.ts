import { linearAttentionUpdate, tidy } from '@seqloom/core';
import { formsOf, goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { Mamba } from './layer.ts';
import type { MambaConfig } from './layer.ts';
import { selectiveStateSpace } from './mamba-s6.ts';
import type { SelectiveSettings, SelectiveTensors } from './mamba-s6.ts';
import { naiveSelectiveStateSpace } from './naive.ts';
import type { NaiveSelectiveInputs } from './naive.ts';

const FORMS = ['chunk', 'recurrent'] as const;
const [CHANNELS, STATES] = [4, 3];

const close = async (given: tf.Tensor, wanted: tf.Tensor): Promise<void> => {
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
};

const tensorsAt = (length: number): SelectiveTensors => ({
  input: randomTensor([2, length, CHANNELS], 1),
  delta: randomTensor([2, length, CHANNELS], 2),
  transition: randomTensor([CHANNELS, STATES], 3, -2, -0.1),
  inputMatrix: randomTensor([2, length, STATES], 4),
  outputMatrix: randomTensor([2, length, STATES], 5),
});

// compares the output of every form with what `wanted` makes of the tensors
async function inAllForms(tensors: SelectiveTensors, settings: SelectiveSettings, wanted: () => tf.Tensor): Promise<void> {
  const right = tf.tidy(wanted);
  for (const form of FORMS) {
    const { output, state } = selectiveStateSpace(tensors, { ...settings, form });
    await close(output, right);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose([right, { ...tensors } as tf.NamedTensorMap]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'steps of almost no time leave the skip connection',
    run: async () => {
      const tensors = { ...tensorsAt(9), deltaBias: tf.fill([CHANNELS], -60), skip: randomTensor([CHANNELS], 6) };
      await inAllForms(tensors, {}, () => tf.mul(tensors.input, tensors.skip));
    },
  },
  {
    title: 'a transition of zero gives linear attention with query C, key B and value delta x',
    run: async () => {
      const tensors = { ...tensorsAt(20), transition: tf.zeros([CHANNELS, STATES]) };
      await inAllForms(tensors, {}, () => {
        const head = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [2, 20, 1, part.shape[2]!]);
        const value = tf.mul(tf.softplus(tensors.delta), tensors.input);
        const { output } = linearAttentionUpdate(
          { query: head(tensors.outputMatrix), key: head(tensors.inputMatrix), value: head(value) },
          { updateRule: 'linear', scale: 1 },
        );
        return tf.reshape(output, value.shape);
      });
    },
  },
  {
    title: 'groups with equal matrices are one group',
    run: async () => {
      const tensors = tensorsAt(9);
      const twice = (part: tf.Tensor): tf.Tensor => tf.stack([part, part], 2);
      const grouped = { ...tensors, inputMatrix: twice(tensors.inputMatrix), outputMatrix: twice(tensors.outputMatrix) };
      await inAllForms(grouped, {}, () => selectiveStateSpace(tensors).output);
      tf.dispose([tensors.inputMatrix, tensors.outputMatrix]);
    },
  },
  {
    title: 'the output is a lower-triangular matrix times the input',
    run: async () => {
      const tensors = tensorsAt(9);
      const on = async (part: tf.Tensor): Promise<ArrayLike<number>> => part.data();
      const [x, d, a, b, c] = await Promise.all(
        [tensors.input, tensors.delta, tensors.transition, tensors.inputMatrix, tensors.outputMatrix].map(on),
      );
      const output = new Float32Array(2 * 9 * CHANNELS);
      for (let row = 0; row < 2; row++) {
        for (let e = 0; e < CHANNELS; e++) {
          const step = (t: number): number => Math.log1p(Math.exp(d![(row * 9 + t) * CHANNELS + e]!));
          for (let i = 0; i < 9; i++) {
            for (let j = 0; j <= i; j++) {
              let time = 0;
              for (let s = j + 1; s <= i; s++) time += step(s);
              let entry = 0;
              for (let n = 0; n < STATES; n++) {
                const read = c![(row * 9 + i) * STATES + n]! * b![(row * 9 + j) * STATES + n]!;
                entry += read * step(j) * Math.exp(a![e * STATES + n]! * time);
              }
              output[(row * 9 + i) * CHANNELS + e]! += entry * x![(row * 9 + j) * CHANNELS + e]!;
            }
          }
        }
      }
      await inAllForms(tensors, {}, () => tf.tensor(output, [2, 9, CHANNELS]));
    },
  },
];

function subjectOf(name: string, { groups, softplus, extras }: { groups: number; softplus: boolean; extras: boolean }): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    input: uniform64([2, length, CHANNELS], seed),
    delta: uniform64([2, length, CHANNELS], seed + 1, softplus ? -2 : 0.05, softplus ? 1 : 0.5),
    transition: uniform64([CHANNELS, STATES], seed + 2, -3, -0.1),
    inputMatrix: uniform64(groups > 1 ? [2, length, groups, STATES] : [2, length, STATES], seed + 3),
    outputMatrix: uniform64(groups > 1 ? [2, length, groups, STATES] : [2, length, STATES], seed + 4),
    memory: uniform64([2, CHANNELS, STATES], seed + 5),
    ...(extras
      ? {
          skip: uniform64([CHANNELS], seed + 6),
          gate: uniform64([2, length, CHANNELS], seed + 7, -2, 2),
          deltaBias: uniform64([CHANNELS], seed + 8),
        }
      : {}),
  });
  const hard = (title: string, maps: Parameters<typeof mapArrays64>[1]) => ({ title, inputs: () => mapArrays64(inputs(20, 3), maps) });
  return {
    card,
    name,
    inputs,
    degenerate,
    lengths: extras ? [1, 7, 65] : [1, 7, 63, 65, 100],
    gradients: Object.keys(inputs(1, 1)),
    naive: (arrays: Arrays64) => {
      const given = arrays as unknown as NaiveSelectiveInputs;
      const grouped = (matrix: Array64): Array64 =>
        matrix.shape.length === 4 ? matrix : { shape: [matrix.shape[0]!, matrix.shape[1]!, 1, matrix.shape[2]!], data: matrix.data };
      return naiveSelectiveStateSpace(
        { ...given, inputMatrix: grouped(given.inputMatrix), outputMatrix: grouped(given.outputMatrix) },
        { deltaSoftplus: softplus },
      ) as unknown as Arrays64;
    },
    forms: formsOf(selectiveStateSpace, FORMS, { deltaSoftplus: softplus }),
    ...(softplus
      ? {
          hard: [
            hard('steps before softplus of 100 and -100', { delta: (_, at) => (at % 2 === 0 ? 100 : -100) }),
            hard('a transition of -1000', { transition: () => -1000 }),
          ],
        }
      : {}),
    badInputs: [
      {
        title: 'an input of rank 2',
        argument: 'input',
        call: () => tidy(() => selectiveStateSpace({ ...tensorsAt(2), input: tf.zeros([2, 2]) })),
      },
      {
        title: 'a delta of another width',
        argument: 'delta',
        call: () => tidy(() => selectiveStateSpace({ ...tensorsAt(2), delta: tf.zeros([2, 2, 5]) })),
      },
      {
        title: 'three groups for four channels',
        argument: 'inputMatrix',
        call: () =>
          tidy(() => selectiveStateSpace({ ...tensorsAt(2), inputMatrix: tf.zeros([2, 2, 3, 3]), outputMatrix: tf.zeros([2, 2, 3, 3]) })),
      },
      {
        title: 'a state of another width',
        argument: 'state.memory',
        call: () => tidy(() => selectiveStateSpace(tensorsAt(2), { state: { memory: tf.zeros([2, 4, 5]) } })),
      },
      {
        title: 'a mask of another length',
        argument: 'mask',
        call: () => tidy(() => selectiveStateSpace(tensorsAt(2), { mask: tf.ones([2, 3]) })),
      },
      {
        title: 'chunks of half a token',
        argument: 'chunkSize',
        call: () => tidy(() => selectiveStateSpace(tensorsAt(2), { chunkSize: 0.5 })),
      },
    ],
  };
}

opLaws(subjectOf('mamba-s6', { groups: 1, softplus: true, extras: true }));
opLaws(subjectOf('mamba-s6, two groups, steps as given', { groups: 2, softplus: false, extras: false }));

const LAYERS: { name: string; config: Omit<MambaConfig, 'dim'>; dims: Record<string, number> }[] = [
  { name: 'defaults', config: { stateDim: 4 }, dims: { innerDim: 16, stateDim: 4, kernelSize: 4 } },
  {
    name: 'norms of the selection, biases, recurrent',
    config: { stateDim: 3, innerDim: 6, kernelSize: 2, stepRank: 2, selectionNorm: true, bias: true, form: 'recurrent' },
    dims: { innerDim: 6, stateDim: 3, kernelSize: 2 },
  },
  {
    name: 'without projection out',
    config: { stateDim: 3, innerDim: 6, projectOutput: false },
    dims: { innerDim: 6, stateDim: 3, kernelSize: 4 },
  },
];
for (const { name, config, dims } of LAYERS) {
  mixerLaws({
    card,
    name: `mamba-s6, ${name}`,
    build: () => new Mamba({ dim: 8, seed: 3, ...config }),
    dims,
    badConfigs: [
      { build: () => new Mamba({ dim: 8, stateDim: 0 }), argument: 'config.stateDim' },
      { build: () => new Mamba({ dim: 8, stepMin: 0 }), argument: 'config.stepMin' },
    ],
  });
}

const folder = (op: string): URL => new URL(`../../golden/mamba-s6/${op}/`, import.meta.url);

for (const form of FORMS) {
  goldenSuite({
    op: 'mamba-selective-scan',
    name: `mamba-selective-scan, ${form}`,
    folder: folder('mamba-selective-scan'),
    run: ({ inputs, parameters }, { config }) => {
      const given = { ...inputs, ...parameters };
      const [batch, channels, length] = given['u']!.shape as [number, number, number];
      const first = (part: tf.Tensor): tf.Tensor => tf.transpose(part, [0, 2, 1]);
      // [B, N, T], [B, G, N, T], or one row of [C, N] per channel for all tokens
      const matrix = (part: tf.Tensor): tf.Tensor => {
        if (part.rank === 4) return tf.transpose(part, [0, 3, 1, 2]);
        if (part.rank === 3) return first(part);
        return tf.add(tf.reshape(part, [1, 1, channels, part.shape[1]!]), tf.zeros([batch, length, channels, part.shape[1]!]));
      };
      const { output, state } = selectiveStateSpace(
        {
          input: first(given['u']!),
          delta: first(given['delta']!),
          transition: given['A']!,
          inputMatrix: matrix(given['B']!),
          outputMatrix: matrix(given['C']!),
          ...(given['D'] ? { skip: given['D'] } : {}),
          ...(given['delta_bias'] ? { deltaBias: given['delta_bias'] } : {}),
          ...(given['z'] ? { gate: first(given['z']) } : {}),
        },
        { form, deltaSoftplus: config['delta_softplus'] === true },
      );
      return { o: first(output), final_state: state.memory };
    },
  });
  goldenSuite({
    op: 'mamba-step',
    name: `mamba-step, ${form}`,
    folder: folder('mamba-step'),
    run: ({ inputs, parameters }) => {
      const given = { ...inputs, ...parameters };
      const { output, state } = selectiveStateSpace(
        {
          input: given['x']!,
          delta: given['dt']!,
          transition: given['A']!,
          inputMatrix: given['B']!,
          outputMatrix: given['C']!,
          skip: given['D']!,
          deltaBias: given['dt_bias']!,
          gate: given['z']!,
        },
        { form, state: { memory: given['initial_state']! } },
      );
      return { o: output, final_state: state.memory };
    },
  });
}

goldenSuite({
  op: 'mamba-block',
  folder: folder('mamba-block'),
  run: ({ inputs, parameters }, { config }) => {
    const sizes = config as Record<string, number>;
    const layer = new Mamba({
      dim: sizes['d_model']!,
      innerDim: sizes['d_model']! * sizes['expand']!,
      stateDim: sizes['d_state']!,
      kernelSize: sizes['d_conv']!,
      bias: parameters['in_proj.bias'] !== undefined,
      ...(sizes['dt_rank'] ? { stepRank: sizes['dt_rank'] } : {}),
    });
    // the layer computes with the golden tensors themselves, so that gradients reach them
    const use = (parameter: { readonly value: tf.Tensor } | null, name: string, transposed = false): void => {
      const given = parameters[name]!;
      const tensor = transposed ? tf.transpose(given) : tf.reshape(given, parameter!.value.shape);
      Object.defineProperty(parameter, 'value', { value: tensor });
    };
    use(layer.input.weight, 'in_proj.weight', true);
    use(layer.convolution.weight, 'conv1d.weight');
    use(layer.convolution.bias, 'conv1d.bias');
    use(layer.selection.weight, 'x_proj.weight', true);
    use(layer.stepWeight, 'dt_proj.weight', true);
    use(layer.stepBias, 'dt_proj.bias');
    use(layer.transitionLog, 'A_log');
    use(layer.skip, 'D');
    use(layer.output!.weight, 'out_proj.weight', true);
    if (layer.input.bias) use(layer.input.bias, 'in_proj.bias');
    if (layer.output!.bias) use(layer.output!.bias, 'out_proj.bias');
    const { output } = layer.forward(inputs['x']!);
    layer.dispose();
    return { o: output };
  },
});
