import { tidy } from '@seqloom/core';
import { mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, MixerSubject, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { parallelScan } from '../parallel-scan/parallel-scan.ts';
import { card } from './card.ts';
import { naiveS4d, naiveS5 } from './naive.ts';
import type { Discretisation, NaiveS4dInputs, NaiveS5Inputs } from './naive.ts';
import { S4d } from './s4d-layer.ts';
import { s4d } from './s4d.ts';
import type { S4dSettings, S4dTensors } from './s4d.ts';
import { S5 } from './s5-layer.ts';
import { s5 } from './s5.ts';
import type { S5Settings, S5Tensors } from './s5.ts';

const FORMS = ['parallel', 'chunk', 'recurrent'] as const;
const [CHANNELS, POLES] = [2, 3];

const s4dAt = (length: number): S4dTensors => ({
  input: randomTensor([2, length, CHANNELS], 1),
  poleReal: randomTensor([CHANNELS, POLES], 2, -1, -0.1),
  poleImaginary: randomTensor([CHANNELS, POLES], 3, -4, 4),
  logStep: randomTensor([CHANNELS], 4, -2.5, -1),
  outputReal: randomTensor([CHANNELS, POLES], 5),
  outputImaginary: randomTensor([CHANNELS, POLES], 6),
});

const s5At = (length: number): S5Tensors => ({
  input: randomTensor([2, length, CHANNELS], 1),
  poleReal: randomTensor([POLES], 2, -1, -0.1),
  poleImaginary: randomTensor([POLES], 3, -4, 4),
  logStep: randomTensor([POLES], 4, -2.5, -1),
  inputReal: randomTensor([POLES, CHANNELS], 5),
  inputImaginary: randomTensor([POLES, CHANNELS], 6),
  outputReal: randomTensor([CHANNELS, POLES], 7),
  outputImaginary: randomTensor([CHANNELS, POLES], 8),
});

// compares the output of every form of S4D with what `wanted` makes
async function inAllForms(run: (settings: S4dSettings) => tf.Tensor, wanted: () => tf.Tensor): Promise<void> {
  const right = tf.tidy(wanted);
  for (const form of FORMS) {
    const output = tf.tidy(() => run({ form, chunkSize: 8 }));
    expect(relativeError64(await output.data(), await right.data()), form).toBeLessThan(1e-5);
    output.dispose();
  }
  right.dispose();
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a single real pole is an exponential moving average',
    run: () =>
      inAllForms(
        (settings) => {
          const ones = tf.ones([CHANNELS, 1]);
          // C = 1 / 2 undoes the factor 2 of a pair
          const single = {
            poleReal: tf.neg(ones),
            poleImaginary: tf.zerosLike(ones),
            outputReal: tf.div(ones, 2),
            outputImaginary: tf.zerosLike(ones),
          };
          return s4d({ input: randomTensor([2, 20, CHANNELS], 1), logStep: tf.fill([CHANNELS], Math.log(0.3)), ...single }, settings)
            .output;
        },
        () => {
          const kept = Math.exp(-0.3);
          return parallelScan({ input: tf.mul(randomTensor([2, 20, CHANNELS], 1), 1 - kept), decay: tf.fill([CHANNELS], kept) }).output;
        },
      ),
  },
  {
    title: 'the answer to an impulse is the kernel',
    run: async () => {
      const [real, imaginary, step] = [
        uniform64([CHANNELS, POLES], 2, -1, -0.1),
        uniform64([CHANNELS, POLES], 3, -4, 4),
        uniform64([CHANNELS], 4, -2.5, -1),
      ];
      const [cr, ci, skip] = [uniform64([CHANNELS, POLES], 5), uniform64([CHANNELS, POLES], 6), uniform64([CHANNELS], 7)];
      const kernel = new Float32Array(2 * 20 * CHANNELS);
      for (let h = 0; h < CHANNELS; h++) {
        const delta = Math.exp(step.data[h]!);
        for (let l = 0; l < 20; l++) {
          let sum = l === 0 ? skip.data[h]! : 0;
          for (let n = 0; n < POLES; n++) {
            const at = h * POLES + n;
            const [a, b] = [real.data[at]!, imaginary.data[at]!];
            // (exp(z (l + 1)) - exp(z l)) / A = Bbar Abar^l
            const part = (t: number): [number, number] => [Math.exp(a * t) * Math.cos(b * t), Math.exp(a * t) * Math.sin(b * t)];
            const [late, early] = [part(delta * (l + 1)), part(delta * l)];
            const [dr, di] = [late[0] - early[0], late[1] - early[1]];
            const size = a * a + b * b;
            const [br, bi] = [(dr * a + di * b) / size, (di * a - dr * b) / size];
            sum += 2 * (cr.data[at]! * br - ci.data[at]! * bi);
          }
          kernel[l * CHANNELS + h] = sum;
        }
      }
      await inAllForms(
        (settings) => {
          const impulse = tf.concat([tf.ones([1, 1, CHANNELS]), tf.zeros([1, 19, CHANNELS])], 1);
          const input = tf.concat([impulse, tf.zeros([1, 20, CHANNELS])], 0);
          return s4d({ ...s4dAt(1), input, skip: randomTensor([CHANNELS], 7) }, settings).output;
        },
        () => tf.tensor(kernel, [2, 20, CHANNELS]),
      );
    },
  },
  {
    title: 'S5 without mixing of channels is S4D',
    run: () =>
      inAllForms(
        ({ form }) => {
          const { input, poleReal, poleImaginary, logStep, outputReal, outputImaginary } = s4dAt(20);
          const flat = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [CHANNELS * POLES]);
          // pole p belongs to channel floor(p / N)
          const own = tf.reshape(tf.tensor2d([1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 1], [CHANNELS * POLES, CHANNELS]), [
            CHANNELS * POLES,
            CHANNELS,
          ]);
          const spread = (part: tf.Tensor): tf.Tensor => tf.mul(tf.transpose(own), tf.reshape(flat(part), [1, CHANNELS * POLES]));
          const tensors = {
            input,
            poleReal: flat(poleReal),
            poleImaginary: flat(poleImaginary),
            logStep: tf.reshape(tf.matMul(own, tf.reshape(logStep, [CHANNELS, 1])), [CHANNELS * POLES]),
            inputReal: own,
            inputImaginary: tf.zerosLike(own),
            outputReal: spread(outputReal),
            outputImaginary: spread(outputImaginary),
          };
          return s5(tensors, { form: form! }).output;
        },
        () => s4d(s4dAt(20)).output,
      ),
  },
  {
    title: 'both discretisations come together as the square of the step',
    run: async () => {
      for (const form of FORMS) {
        const gap = async (step: number): Promise<number> => {
          const difference = tf.tidy(() => {
            // the same stretch of time at any step
            const input = tf.ones([1, Math.round(4 / step), CHANNELS]);
            const tensors = {
              ...s4dAt(1),
              poleImaginary: randomTensor([CHANNELS, POLES], 3, 1, 2),
              input,
              logStep: tf.fill([CHANNELS], Math.log(step)),
            };
            const end = (discretisation: Discretisation): tf.Tensor => s4d(tensors, { form, discretisation }).state.hidden;
            return tf.max(tf.abs(tf.sub(end('zoh'), end('bilinear'))));
          });
          const [value] = await difference.data();
          difference.dispose();
          return value!;
        };
        const ratio = (await gap(0.4)) / (await gap(0.2));
        expect(ratio, form).toBeGreaterThan(3.2);
        expect(ratio, form).toBeLessThan(4.8);
      }
    },
  },
];

type Change<Tensors, Settings> = { readonly tensors?: Partial<Tensors>; readonly settings?: Settings };

const refusedS4d = (title: string, argument: string, change: () => Change<S4dTensors, S4dSettings>) => ({
  title,
  argument,
  call: () =>
    tidy(() => {
      const { tensors, settings } = change();
      return s4d({ ...s4dAt(3), ...tensors }, settings);
    }),
});

const refusedS5 = (title: string, argument: string, change: () => Change<S5Tensors, S5Settings>) => ({
  title,
  argument,
  call: () =>
    tidy(() => {
      const { tensors, settings } = change();
      return s5({ ...s5At(3), ...tensors }, settings);
    }),
});

function s4dSubject(name: string, discretisation: Discretisation, padded: boolean, lengths?: readonly number[]): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    input: uniform64([2, length, CHANNELS], seed),
    poleReal: uniform64([CHANNELS, POLES], seed + 1, -1, -0.1),
    poleImaginary: uniform64([CHANNELS, POLES], seed + 2, -4, 4),
    logStep: uniform64([CHANNELS], seed + 3, -2.5, -1),
    outputReal: uniform64([CHANNELS, POLES], seed + 4),
    outputImaginary: uniform64([CHANNELS, POLES], seed + 5),
    skip: uniform64([CHANNELS], seed + 6),
    hidden: uniform64([2, CHANNELS, POLES], seed + 7),
    hiddenImaginary: uniform64([2, CHANNELS, POLES], seed + 8),
    ...(padded ? { lengths: { shape: [2], data: Float64Array.of(Math.floor(length / 3), length) } } : {}),
  });
  const hard = (title: string, maps: Parameters<typeof mapArrays64>[1]) => ({ title, inputs: () => mapArrays64(inputs(40, 3), maps) });
  return {
    card,
    name,
    inputs,
    degenerate,
    ...(lengths ? { lengths } : {}),
    gradients: Object.keys(inputs(1, 1)).filter((input) => input !== 'lengths'),
    naive: (arrays: Arrays64) => naiveS4d(arrays as unknown as NaiveS4dInputs, { discretisation }) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (tensors) => {
          const { hidden, hiddenImaginary, lengths: valid, ...rest } = tensors as Record<string, tf.Tensor>;
          const settings = { form, discretisation, chunkSize: 16, state: { hidden: hidden!, hiddenImaginary: hiddenImaginary! } };
          const { output, state } = s4d(rest as unknown as S4dTensors, { ...settings, ...(valid ? { lengths: valid } : {}) });
          return { output, hidden: state.hidden, hiddenImaginary: state.hiddenImaginary };
        },
      ]),
    ),
    hard: [
      hard('poles that forget at once', { poleReal: () => -1e4 }),
      hard('poles that hardly forget, at steps of 1e-4', {
        poleReal: () => -1e-3,
        poleImaginary: (value) => 1e-3 * value,
        logStep: () => Math.log(1e-4),
      }),
    ],
    badInputs: [
      refusedS4d('an input of rank 2', 'input', () => ({ tensors: { input: tf.zeros([3, 2]) } })),
      refusedS4d('poles of other channels', 'poleImaginary', () => ({ tensors: { poleImaginary: tf.zeros([3, 3]) } })),
      refusedS4d('a state of other poles', 'state.hidden', () => ({
        settings: { state: { hidden: tf.zeros([2, 2, 4]), hiddenImaginary: tf.zeros([2, 2, 4]) } },
      })),
      refusedS4d('an unknown discretisation', 'discretisation', () => ({ settings: { discretisation: 'euler' as 'zoh' } })),
      refusedS4d('blocks of half a token', 'chunkSize', () => ({ settings: { chunkSize: 0.5 } })),
    ],
  };
}

function s5Subject(name: string, lengths: readonly number[]): OpSubject {
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    input: uniform64([2, length, CHANNELS], seed),
    poleReal: uniform64([POLES], seed + 1, -1, -0.1),
    poleImaginary: uniform64([POLES], seed + 2, -4, 4),
    logStep: uniform64([POLES], seed + 3, -2.5, -1),
    inputReal: uniform64([POLES, CHANNELS], seed + 4),
    inputImaginary: uniform64([POLES, CHANNELS], seed + 5),
    outputReal: uniform64([CHANNELS, POLES], seed + 6),
    outputImaginary: uniform64([CHANNELS, POLES], seed + 7),
    hidden: uniform64([2, POLES], seed + 8),
    hiddenImaginary: uniform64([2, POLES], seed + 9),
    skip: uniform64([CHANNELS], seed + 10),
    interval: uniform64([2, length], seed + 11, 0.2, 2),
    mask: { shape: [2, length], data: uniform64([2, length], seed + 12, 0, 1).data.map((value) => (value < 0.8 ? 1 : 0)) },
  });
  return {
    card,
    name,
    inputs,
    degenerate,
    lengths,
    gradients: Object.keys(inputs(1, 1)).filter((input) => input !== 'mask'),
    naive: (arrays: Arrays64) => naiveS5(arrays as unknown as NaiveS5Inputs, { discretisation: 'zoh' }) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (tensors) => {
          const { hidden, hiddenImaginary, mask, ...rest } = tensors as Record<string, tf.Tensor>;
          const settings = { form, state: { hidden: hidden!, hiddenImaginary: hiddenImaginary! } };
          const { output, state } = s5(rest as unknown as S5Tensors, { ...settings, ...(mask ? { mask } : {}) });
          return { output, hidden: state.hidden, hiddenImaginary: state.hiddenImaginary };
        },
      ]),
    ),
    badInputs: [
      refusedS5('an input of rank 2', 'input', () => ({ tensors: { input: tf.zeros([3, 2]) } })),
      refusedS5('an input matrix the other way round', 'inputReal', () => ({ tensors: { inputReal: tf.zeros([2, 3]) } })),
      refusedS5('intervals of another length', 'interval', () => ({ tensors: { interval: tf.ones([2, 4]) } })),
      refusedS5('a mask of another length', 'mask', () => ({ settings: { mask: tf.ones([2, 4]) } })),
      refusedS5('an unknown form', 'form', () => ({ settings: { form: 'gathered' as 'chunk' } })),
    ],
  };
}

const SOME = [1, 7, 65];
// the first one also runs on WebGPU, where every new shape compiles its programs
opLaws(s4dSubject('s4d, zero-order hold', 'zoh', false, [1, 20]));
opLaws(s4dSubject('s4d, bilinear, padded rows', 'bilinear', true));
opLaws(s5Subject('s5, uneven intervals, padding', SOME));

const badConfigs: MixerSubject['badConfigs'] = [
  { build: () => new S4d({ dim: 8, stateDim: 5 }), argument: 'config.stateDim' },
  { build: () => new S5({ dim: 8, stateDim: 6, blocks: 2 }), argument: 'config.stateDim' },
  { build: () => new S5({ dim: 8, stateDim: 8, blocks: 3 }), argument: 'config.blocks' },
];
const quick = { dim: 8, seed: 3, stepMin: 0.1, stepMax: 0.5 } as const;
const LAYERS: Pick<MixerSubject, 'name' | 'build' | 'dims'>[] = [
  {
    name: 's4d-s5-diagonal-ssm, S4D',
    build: () => new S4d({ ...quick, stateDim: 4, chunkSize: 4 }),
    dims: { dim: 8, stateDim: 4 },
  },
  {
    name: 's4d-s5-diagonal-ssm, S4D, noncausal, bilinear, convolution',
    build: () =>
      new S4d({ ...quick, dim: 4, stateDim: 2, poles: 'inv', pattern: 'noncausal-self', discretisation: 'bilinear', form: 'parallel' }),
  },
  {
    name: 's4d-s5-diagonal-ssm, S5',
    build: () => new S5({ ...quick, stateDim: 8, blocks: 2 }),
    dims: { dim: 8, stateDim: 8, perChannel: 0 },
  },
  {
    name: 's4d-s5-diagonal-ssm, S5, noncausal, bilinear, log-depth scan',
    build: () => new S5({ ...quick, stateDim: 4, pattern: 'noncausal-self', discretisation: 'bilinear', form: 'parallel' }),
  },
];
for (const layer of LAYERS) mixerLaws({ card, badConfigs, ...layer });
