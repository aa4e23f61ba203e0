import { tidy } from '@seqloom/core';
import { expectCloseTo, goldenSuite, mapArrays64, mixerLaws, opLaws, opTensor, randomTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { runningSoftmax } from '../linear-attention/efficient-keys.ts';
import { boundedMemoryControl } from './bounded-memory-control.ts';
import type { BoundedMemoryTensors } from './bounded-memory-control.ts';
import { BoundedMemoryControl } from './bounded-memory-layer.ts';
import { card } from './card.ts';
import { gatedSlotAttention } from './gated-slot-attention.ts';
import type { GatedSlotTensors } from './gated-slot-attention.ts';
import { GatedSlotAttention } from './layer.ts';
import { naiveBoundedMemoryControl, naiveGatedSlotAttention } from './naive.ts';
import type { NaiveBoundedMemoryInputs, NaiveSlotInputs } from './naive.ts';

const FORMS = ['chunk', 'recurrent'] as const;

// the same decay for all slots of a head
const together = (seed: number): tf.Tensor => tf.tidy(() => tf.add(tf.zeros([1, 10, 2, 3]), randomTensor([1, 10, 2, 1], seed, -1, -0.05)));

async function inAllForms(tensors: GatedSlotTensors, check: (output: tf.Tensor) => Promise<void>): Promise<void> {
  for (const form of FORMS) {
    const { output, state } = gatedSlotAttention(tensors, { form, chunkSize: 4 });
    await check(output);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose({ ...tensors });
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'with one slot the output is a gated running average of the values',
    run: async () => {
      const [logDecay, values] = [uniform64([1, 10, 1, 1], 3, -1, 0), uniform64([1, 10, 1, 3], 4)];
      const wanted = new Float64Array(30);
      for (let at = 0; at < 30; at++) {
        const alpha = Math.exp(logDecay.data[Math.floor(at / 3)]!);
        wanted[at] = alpha * (wanted[at - 3] ?? 0) + (1 - alpha) * values.data[at]!;
      }
      const tensors = {
        query: randomTensor([1, 10, 1, 4], 1),
        key: randomTensor([1, 10, 1, 4], 2),
        value: opTensor(values),
        logDecay: opTensor(logDecay),
      };
      await inAllForms(tensors, (output) => expectCloseTo(output, { shape: [1, 10, 1, 3], data: wanted }, 1e-5, 'output'));
    },
  },
  {
    title: 'with values of c the output is c (1 - product of the decays) where the slots of a head decay alike',
    run: async () => {
      const logDecay = together(5);
      const sums = tf.tidy(() => tf.cumsum(tf.slice(logDecay, [0, 0, 0, 0], [1, 10, 2, 1]), 1));
      const wanted = Float64Array.from(await sums.data(), (sum) => -0.5 * Math.expm1(sum)).values();
      sums.dispose();
      const repeated = Float64Array.from([...wanted].flatMap((value) => [value, value, value]));
      const tensors = {
        query: randomTensor([1, 10, 2, 4], 1),
        key: randomTensor([1, 10, 2, 4], 2),
        value: tf.fill([1, 10, 2, 3], 0.5),
        logDecay,
      };
      await inAllForms(tensors, (output) => expectCloseTo(output, { shape: [1, 10, 2, 3], data: repeated }, 1e-5, 'output'));
    },
  },
  {
    title: 'permuting the slots leaves the output alone',
    run: async () => {
      const logDecay = randomTensor([1, 10, 2, 3], 5, -1, 0);
      const permuted = tf.tidy(() =>
        tf.concat([tf.slice(logDecay, [0, 0, 0, 1], [1, 10, 2, 2]), tf.slice(logDecay, [0, 0, 0, 0], [1, 10, 2, 1])], 3),
      );
      const rest = { query: randomTensor([1, 10, 2, 4], 1), key: randomTensor([1, 10, 2, 4], 2), value: randomTensor([1, 10, 2, 3], 3) };
      const { output, state } = gatedSlotAttention({ ...rest, logDecay });
      const wanted = { shape: output.shape, data: Float64Array.from(await output.data()) };
      tf.dispose([output, { ...state }, logDecay]);
      await inAllForms({ ...rest, logDecay: permuted }, (given) => expectCloseTo(given, wanted, 1e-6, 'output'));
    },
  },
  {
    title: 'ABC with one huge slot logit per token keeps the last value that each slot was given',
    run: async () => {
      const slotLogits = tf.tensor(
        Float32Array.from({ length: 30 }, (_, at) => (at % 3 === Math.floor(at / 3) % 3 ? 100 * Math.floor(at / 3) : -1e4)),
        [1, 10, 1, 3],
      );
      const values = uniform64([1, 10, 1, 2], 6);
      const tensors = { query: randomTensor([1, 10, 1, 4], 1), key: randomTensor([1, 10, 1, 4], 2), value: opTensor(values), slotLogits };
      // tokens 9, 7 and 8 are the last of slots 0, 1 and 2
      const last = Float64Array.from([9, 7, 8].flatMap((t) => [...values.data.subarray(2 * t, 2 * t + 2)]));
      for (const form of FORMS) {
        const { output, state } = boundedMemoryControl(tensors, { form });
        await expectCloseTo(state.valueSlots, { shape: [1, 1, 3, 2], data: last }, 1e-6, form);
        tf.dispose([output, { ...state }]);
      }
      tf.dispose(tensors);
    },
  },
];

const full = (shape: readonly number[], value: (at: number) => number): Array64 => ({
  shape,
  data: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => value(at)),
});

const zeros = (): GatedSlotTensors => ({
  query: tf.zeros([1, 2, 2, 4]),
  key: tf.zeros([1, 2, 2, 4]),
  value: tf.zeros([1, 2, 2, 3]),
  logDecay: tf.zeros([1, 2, 2, 3]),
});

const badInputs: OpSubject['badInputs'] = [
  { title: 'a key of rank 3', argument: 'key', call: () => tidy(() => gatedSlotAttention({ ...zeros(), key: tf.zeros([1, 2, 4]) })) },
  { title: 'no tokens', argument: 'query', call: () => tidy(() => gatedSlotAttention({ ...zeros(), query: tf.zeros([1, 0, 2, 4]) })) },
  {
    title: 'gates per head',
    argument: 'logDecay',
    call: () => tidy(() => gatedSlotAttention({ ...zeros(), logDecay: tf.zeros([1, 2, 2]) })),
  },
  {
    title: 'weights of more slots',
    argument: 'write',
    call: () => tidy(() => gatedSlotAttention({ ...zeros(), write: tf.zeros([1, 2, 2, 4]) })),
  },
  { title: 'uneven groups', argument: 'query', call: () => tidy(() => gatedSlotAttention({ ...zeros(), query: tf.zeros([1, 2, 3, 4]) })) },
  {
    title: 'key slots laid out as [K, M]',
    argument: 'state.keySlots',
    call: () =>
      tidy(() => gatedSlotAttention(zeros(), { state: { keySlots: tf.zeros([1, 2, 4, 3]), valueSlots: tf.zeros([1, 2, 3, 3]) } })),
  },
  { title: 'chunks of half a token', argument: 'chunkSize', call: () => tidy(() => gatedSlotAttention(zeros(), { chunkSize: 0.5 })) },
  { title: 'a mask of another length', argument: 'mask', call: () => tidy(() => gatedSlotAttention(zeros(), { mask: tf.ones([1, 3]) })) },
];

const slotInputs = (length: number, seed: number): Record<string, Array64> => ({
  query: uniform64([2, length, 4, 4], seed, -2, 2),
  key: uniform64([2, length, 2, 4], seed + 1, -2, 2),
  value: uniform64([2, length, 2, 3], seed + 2),
  logDecay: uniform64([2, length, 2, 3], seed + 3, -1, 0),
  keySlots: uniform64([2, 2, 3, 4], seed + 5),
  valueSlots: uniform64([2, 2, 3, 3], seed + 6),
});
const slotSubject: OpSubject = {
  card,
  name: 'gated-slot-attention, grouped heads',
  inputs: slotInputs,
  // over the border of a chunk; the golden vectors have 65 tokens
  lengths: [1, 7, 19],
  gradients: ['query', 'key', 'value', 'logDecay', 'keySlots', 'valueSlots'],
  naive: (arrays: Arrays64) => naiveGatedSlotAttention(arrays as unknown as NaiveSlotInputs, 0.5) as unknown as Arrays64,
  forms: Object.fromEntries(
    FORMS.map((form) => [
      form,
      ({ keySlots, valueSlots, ...rest }: OpTensors) => {
        const state = { keySlots: keySlots!, valueSlots: valueSlots! };
        const result = gatedSlotAttention(rest as unknown as GatedSlotTensors, { form, chunkSize: 16, state });
        return { output: result.output, ...result.state };
      },
    ]),
  ),
  hard: [
    { title: 'decays of exactly 1', inputs: () => ({ ...slotInputs(20, 3), logDecay: full([2, 20, 2, 3], () => 0) }) },
    { title: 'log decays of -100', inputs: () => ({ ...slotInputs(20, 3), logDecay: full([2, 20, 2, 3], () => -100) }) },
    {
      title: 'log decays of 0, -1e-3 and -1e4 in turn',
      inputs: () => ({ ...slotInputs(20, 3), logDecay: full([2, 20, 2, 3], (at) => [0, -1e-3, -1e4, 0, 0][at % 5]!) }),
    },
    {
      title: 'scores of 1e4',
      inputs: () => mapArrays64(slotInputs(20, 3), { query: (value) => 5e3 * value }),
      // a score of 1e4 has a rounding error of 1e-3, which the softmax passes on
      tolerance: 1e-3,
    },
  ],
  degenerate,
  badInputs,
};

opLaws(slotSubject);

const boundedInputs = (length: number, seed: number): Record<string, Array64> => ({
  query: uniform64([2, length, 2, 4], seed, -2, 2),
  key: uniform64([2, length, 2, 4], seed + 1, -2, 2),
  value: uniform64([2, length, 2, 3], seed + 2),
  slotLogits: uniform64([2, length, 2, 3], seed + 3, -3, 3),
  keySlots: uniform64([2, 2, 3, 4], seed + 5),
  valueSlots: uniform64([2, 2, 3, 3], seed + 6),
  logNormaliser: uniform64([2, 2, 3], seed + 7),
});
opLaws({
  card,
  name: 'gated-slot-attention, ABC',
  inputs: boundedInputs,
  lengths: [1, 7, 65],
  gradients: ['query', 'key', 'value', 'slotLogits', 'keySlots', 'valueSlots', 'logNormaliser'],
  naive: (arrays: Arrays64) => naiveBoundedMemoryControl(arrays as unknown as NaiveBoundedMemoryInputs, 0.5) as unknown as Arrays64,
  forms: Object.fromEntries(
    FORMS.map((form) => [
      form,
      ({ keySlots, valueSlots, logNormaliser, ...rest }: OpTensors) => {
        const state = { keySlots: keySlots!, valueSlots: valueSlots!, logNormaliser: logNormaliser! };
        const result = boundedMemoryControl(rest as unknown as BoundedMemoryTensors, { form, chunkSize: 16, state });
        return { output: result.output, ...result.state };
      },
    ]),
  ),
  hard: [
    {
      title: 'slot logits of 32 and -32 in turn',
      inputs: () => ({ ...boundedInputs(20, 3), slotLogits: full([2, 20, 2, 3], (at) => (at % 4 < 2 ? 32 : -32)) }),
    },
  ],
  degenerate,
  badInputs: [
    {
      title: 'a state without its normaliser',
      argument: 'state.logNormaliser',
      call: () =>
        tidy(() => {
          const { logDecay: slotLogits, ...rest } = zeros();
          const state = { keySlots: tf.zeros([1, 2, 3, 4]), valueSlots: tf.zeros([1, 2, 3, 3]) } as never;
          return boundedMemoryControl({ ...rest, slotLogits }, { state });
        }),
    },
  ],
});

mixerLaws({
  card,
  build: () => new GatedSlotAttention({ dim: 8, heads: 2, slots: 3, seed: 3 }),
  length: 6,
  dims: { heads: 2, slots: 3, keyDim: 4, valueDim: 4 },
  badConfigs: [
    { build: () => new GatedSlotAttention({ dim: 8, heads: 3 }), argument: 'config.heads' },
    { build: () => new GatedSlotAttention({ dim: 8, heads: 2, keyHeads: 3 }), argument: 'config.keyHeads' },
  ],
});
mixerLaws({
  card,
  name: 'gated-slot-attention, one key head, convolutions, relu',
  build: () => new GatedSlotAttention({ dim: 8, heads: 2, keyHeads: 1, slots: 3, shortConvolution: true, featureMap: 'relu', seed: 3 }),
  // relu has kinks
  gradientStep: 1e-3,
  length: 7,
});
mixerLaws({
  card,
  name: 'gated-slot-attention, ABC',
  build: () => new BoundedMemoryControl({ dim: 8, heads: 2, headDim: 4, slots: 3, seed: 3 }),
  length: 7,
  dims: { heads: 2, slots: 3, keyDim: 4, valueDim: 4, normalised: 1 },
  badConfigs: [{ build: () => new BoundedMemoryControl({ dim: 8, heads: 2, headDim: 3 }), argument: 'config.headDim' }],
});

const swap = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, [0, 1, 3, 2]);
const timeFirst = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, [0, 2, 1, 3]);
for (const form of FORMS) {
  goldenSuite({
    op: 'gsa',
    name: `gsa, ${form}`,
    folder: new URL('../../golden/gated-slot-attention/gsa/', import.meta.url),
    ...(form === 'recurrent' ? { cases: ['tiny', 'state', 'hard'] } : {}),
    run: ({ inputs: { q, k, v, s, g, initial_state_k: keys, initial_state_v: valueSlots } }) => {
      const state = keys && valueSlots ? { state: { keySlots: swap(keys), valueSlots } } : {};
      const result = gatedSlotAttention({ query: q!, key: k!, value: v!, write: s!, logDecay: g! }, { form, ...state });
      return { o: result.output, final_state_k: swap(result.state.keySlots), final_state_v: result.state.valueSlots };
    },
  });
  goldenSuite({
    op: 'abc',
    name: `abc, ${form}`,
    folder: new URL('../../golden/gated-slot-attention/abc/', import.meta.url),
    run: ({ inputs: { q, k, v, s, initial_state_k: keys, initial_state_v: valueSlots } }) => {
      const tensors = { query: timeFirst(q!), key: timeFirst(k!), value: timeFirst(v!) };
      const slotLogits = timeFirst(s!) as tf.Tensor4D;
      if (!keys || !valueSlots) {
        const { output, state } = boundedMemoryControl({ ...tensors, slotLogits }, { form });
        return { o: timeFirst(output), final_state_k: swap(state.keySlots), final_state_v: state.valueSlots };
      }
      // the original adds the given state without decay and starts its normaliser anew
      const { key: write, logDecay } = runningSoftmax(slotLogits);
      const [batch, length, heads, slots] = logDecay.shape;
      const later = tf.slice(logDecay, [0, 1, 0, 0], [batch, length - 1, heads, slots]);
      const decays = tf.concat([tf.zeros([batch, 1, heads, slots]), later], 1);
      const result = gatedSlotAttention({ ...tensors, write, logDecay: decays }, { form, state: { keySlots: swap(keys), valueSlots } });
      return { o: timeFirst(result.output), final_state_k: swap(result.state.keySlots), final_state_v: result.state.valueSlots };
    },
  });
}
