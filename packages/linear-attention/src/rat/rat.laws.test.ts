import { linearScan, softmaxAttention, tidy } from '@seqloom/core';
import { expectCloseTo, mapArrays64, mixerLaws, opLaws, randomTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { card } from './card.ts';
import { Rat } from './layer.ts';
import { naiveRat } from './naive.ts';
import type { NaiveRatInputs } from './naive.ts';
import { rat } from './rat.ts';
import type { RatOptions, RatTensors } from './rat.ts';

const FORMS = ['chunk', 'recurrent'] as const;
const CHUNK = 4;

const tensorsOf = (seed: number): RatTensors => ({
  query: randomTensor([1, 10, 2, 4], seed, -2, 2),
  key: randomTensor([1, 10, 2, 4], seed + 1, -2, 2),
  value: randomTensor([1, 10, 2, 4], seed + 2),
  logDecay: randomTensor([1, 10, 2, 4], seed + 3, -2, 0),
});

async function inAllForms(tensors: RatTensors, wanted: tf.Tensor, options: RatOptions): Promise<void> {
  const right = { shape: wanted.shape, data: Float64Array.from(await wanted.data()) };
  for (const form of FORMS) {
    const { output, state } = rat(tensors, { form, ...options });
    await expectCloseTo(output, right, 1e-5, form);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose([wanted, { ...tensors }]);
}

const closed = (): tf.Tensor => tf.fill([1, 10, 2, 4], -1e4);

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'chunks of one token and closed gates give causal softmax attention',
    run: async () => {
      const { logDecay, ...rest } = tensorsOf(1);
      logDecay.dispose();
      const wanted = tf.tidy(() => softmaxAttention(rest, { causal: true }).output);
      await inAllForms({ ...rest, logDecay: closed() }, wanted, { chunkSize: 1, rotaryBase: null });
    },
  },
  {
    title: 'a chunk that holds the whole sequence gives the gated recurrence of the values',
    run: async () => {
      const tensors = tensorsOf(5);
      const wanted = tf.tidy(() => {
        const decay = tf.exp(tensors.logDecay);
        const input = tf.mul(tf.sub(1, decay), tensors.value);
        return tf.reshape(linearScan({ decay: tf.reshape(decay, [1, 10, 8]), input: tf.reshape(input, [1, 10, 8]) }).hidden, [1, 10, 2, 4]);
      });
      await inAllForms(tensors, wanted, { chunkSize: 16 });
    },
  },
  {
    title: 'with gates of 0 an output attends to the last tokens of finished chunks and to its own token',
    run: async () => {
      const { logDecay, ...rest } = tensorsOf(9);
      logDecay.dispose();
      const seen = (i: number, j: number): boolean => i === j || (j % CHUNK === CHUNK - 1 && Math.floor(j / CHUNK) < Math.floor(i / CHUNK));
      const wanted = tf.tidy(() => {
        const bias = tf.tensor(
          Float32Array.from({ length: 100 }, (_, at) => (seen(Math.floor(at / 10), at % 10) ? 0 : Number.NEGATIVE_INFINITY)),
          [1, 1, 10, 10],
        );
        return softmaxAttention({ ...rest, bias }).output;
      });
      await inAllForms({ ...rest, logDecay: closed() }, wanted, { chunkSize: CHUNK, rotaryBase: null });
    },
  },
];

const inputs = (length: number, seed: number): Record<string, Array64> => ({
  query: uniform64([2, length, 2, 4], seed, -2, 2),
  key: uniform64([2, length, 2, 4], seed + 1, -2, 2),
  value: uniform64([2, length, 2, 4], seed + 2),
  logDecay: uniform64([2, length, 2, 4], seed + 3, -2, 0),
  cachedKey: uniform64([2, 2, 2, 4], seed + 4),
  cachedValue: uniform64([2, 2, 2, 4], seed + 5),
  runningKey: uniform64([2, 2, 4], seed + 6),
  runningValue: uniform64([2, 2, 4], seed + 7),
});

const full = (shape: readonly number[], value: (at: number) => number): Array64 => ({
  shape,
  data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => value(at)),
});

const zeros = (): RatTensors => ({
  query: tf.zeros([1, 2, 2, 4]),
  key: tf.zeros([1, 2, 2, 4]),
  value: tf.zeros([1, 2, 2, 4]),
  logDecay: tf.zeros([1, 2, 2, 4]),
});

// two chunks and one token were before
const START = 2 * CHUNK + 1;
const run = (
  form: 'chunk' | 'recurrent',
  { cachedKey, cachedValue, runningKey, runningValue, ...rest }: OpTensors,
): Record<string, tf.Tensor> => {
  const { output, state } = tidy(() =>
    rat(rest as unknown as RatTensors, {
      form,
      chunkSize: CHUNK,
      state: {
        key: cachedKey!,
        value: cachedValue!,
        runningKey: runningKey!,
        runningValue: runningValue!,
        position: tf.fill([2], START),
        phase: tf.zeros([2, 1, 0]),
      },
    }),
  );
  tf.dispose([state.position, state.phase]);
  return { output, cachedKey: state.key, cachedValue: state.value, runningKey: state.runningKey, runningValue: state.runningValue };
};

opLaws({
  card,
  inputs,
  lengths: [1, 7, 65],
  gradients: ['query', 'key', 'value', 'logDecay', 'cachedKey', 'cachedValue', 'runningKey', 'runningValue'],
  naive: (arrays: Arrays64) =>
    naiveRat(arrays as unknown as NaiveRatInputs, { chunkSize: CHUNK, scale: 0.5, rotaryBase: 10000, start: START }) as unknown as Arrays64,
  forms: {
    chunk: (tensors) => run('chunk', tensors),
    recurrent: { run: (tensors) => run('recurrent', tensors), lengths: [1, 7] },
  },
  hard: [
    { title: 'gates that keep everything', inputs: () => ({ ...inputs(14, 3), logDecay: full([2, 14, 2, 4], () => 0) }) },
    { title: 'log gates of -100', inputs: () => ({ ...inputs(14, 3), logDecay: full([2, 14, 2, 4], () => -100) }) },
    {
      title: 'scores of 1e4',
      inputs: () => mapArrays64(inputs(14, 3), { query: (value) => 5e3 * value }),
      // a score of 1e4 has a rounding error of 1e-3, which the softmax passes on
      tolerance: 1e-3,
    },
  ],
  degenerate,
  badInputs: [
    { title: 'a gate per head', argument: 'logDecay', call: () => tidy(() => rat({ ...zeros(), logDecay: tf.zeros([1, 2, 2]) })) },
    { title: 'no tokens', argument: 'query', call: () => tidy(() => rat({ ...zeros(), query: tf.zeros([1, 0, 2, 4]) })) },
    { title: 'values of another width', argument: 'value', call: () => tidy(() => rat({ ...zeros(), value: tf.zeros([1, 2, 2, 3]) })) },
    { title: 'chunks of half a token', argument: 'chunkSize', call: () => tidy(() => rat(zeros(), { chunkSize: 0.5 })) },
    { title: 'a base of 0', argument: 'rotaryBase', call: () => tidy(() => rat(zeros(), { rotaryBase: 0 })) },
    { title: 'lengths per token', argument: 'lengths', call: () => tidy(() => rat(zeros(), { lengths: tf.ones([1, 2]) })) },
    {
      title: 'a state of other heads',
      argument: 'state.runningKey',
      call: () =>
        tidy(() => {
          const [cache, running] = [tf.zeros([1, 0, 2, 4]), tf.zeros([1, 3, 4])];
          const rest = { position: tf.zeros([1]), phase: tf.zeros([1, 0, 0]) };
          return rat(zeros(), { state: { key: cache, value: cache, runningKey: running, runningValue: running, ...rest } });
        }),
    },
  ],
});

mixerLaws({
  card,
  build: () => new Rat({ dim: 8, heads: 2, groups: 1, chunkSize: 3, seed: 3 }),
  dims: { heads: 2, headDim: 4, chunkSize: 3 },
  badConfigs: [
    { build: () => new Rat({ dim: 8, heads: 3 }), argument: 'config.heads' },
    { build: () => new Rat({ dim: 8, heads: 2, groups: 3 }), argument: 'config.groups' },
    { build: () => new Rat({ dim: 6, heads: 2 }), argument: 'config.heads' },
  ],
});
mixerLaws({
  card,
  name: 'rat, chunks of one token, without positions',
  build: () => new Rat({ dim: 8, heads: 2, chunkSize: 1, rotaryBase: null, seed: 3 }),
  dims: { heads: 2, headDim: 4, chunkSize: 1 },
});
mixerLaws({
  card,
  name: 'rat, recurrent',
  build: () => new Rat({ dim: 8, heads: 2, chunkSize: 4, form: 'recurrent', seed: 3 }),
  dims: { heads: 2, headDim: 4, chunkSize: 4 },
  length: 9,
});
