import { softmaxAttention, tidy } from '@seqloom/core';
import { expectCloseTo, goldenSuite, mapArrays64, mixerLaws, opLaws, opTensor, randomTensor, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { aaren } from './aaren.ts';
import type { AarenTensors } from './aaren.ts';
import { card } from './card.ts';
import { Aaren } from './layer.ts';
import { naiveAaren } from './naive.ts';
import type { NaiveAarenInputs } from './naive.ts';

const FORMS = ['parallel', 'recurrent'] as const;

const tensorsOf = (seed: number): { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor } => ({
  query: randomTensor([2, 4], seed, -2, 2),
  key: randomTensor([1, 10, 2, 4], seed + 1, -2, 2),
  value: randomTensor([1, 10, 2, 3], seed + 2),
});

async function inAllForms(tensors: AarenTensors, wanted: Array64, options: { scale?: number } = {}): Promise<void> {
  for (const form of FORMS) {
    const { output, state } = aaren(tensors, { form, ...options });
    await expectCloseTo(output, wanted, 1e-5, form);
    tf.dispose([output, { ...state }]);
  }
  tf.dispose({ ...tensors });
}

const host = async (tensor: tf.Tensor): Promise<Array64> => {
  const array = { shape: tensor.shape, data: Float64Array.from(await tensor.data()) };
  tensor.dispose();
  return array;
};

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'the output is softmax attention of the learned query over the tokens so far',
    run: async () => {
      const tensors = tensorsOf(1);
      const attended = tf.tidy(() => {
        const query = tf.add(tf.zeros([1, 10, 2, 4]), tensors.query);
        return softmaxAttention({ ...tensors, query }, { causal: true }).output;
      });
      await inAllForms(tensors, await host(attended));
    },
  },
  {
    title: 'permuting earlier tokens leaves an output alone',
    run: async () => {
      const tensors = tensorsOf(4);
      const last = async (given: AarenTensors, form: 'parallel' | 'recurrent'): Promise<Array64> =>
        host(tf.tidy(() => tf.slice(aaren(given, { form }).output, [0, 9, 0, 0], [1, 1, 2, 3])));
      // the first nine tokens the other way round
      const turn = (tensor: tf.Tensor): tf.Tensor =>
        tf.tidy(() => tf.concat([tf.reverse(tf.slice(tensor, [0, 0], [1, 9]), 1), tf.slice(tensor, [0, 9], [1, 1])], 1));
      const turned = { query: tensors.query, key: turn(tensors.key), value: turn(tensors.value) };
      for (const form of FORMS) {
        const given = await last(turned, form);
        const tensor = opTensor(given);
        await expectCloseTo(tensor, await last(tensors, form), 1e-6, form);
        tensor.dispose();
      }
      tf.dispose([tensors, turned.key, turned.value]);
    },
  },
  {
    title: 'a query of zeros gives the mean of the values so far',
    run: async () => {
      const { query, ...rest } = tensorsOf(7);
      query.dispose();
      const means = tf.tidy(() => tf.div(tf.cumsum(rest.value, 1), tf.reshape(tf.range(1, 11, 1, 'float32'), [1, 10, 1, 1])));
      await inAllForms({ query: tf.zeros([2, 4]), ...rest }, await host(means));
    },
  },
  {
    title: 'logits that lie 1000 apart give the value of the largest one so far',
    run: async () => {
      const logits = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7].map((rank) => 1000 * rank);
      const values = uniform64([1, 10, 1, 2], 8);
      const best = logits.map((_, t) => logits.indexOf(Math.max(...logits.slice(0, t + 1))));
      const wanted = { shape: [1, 10, 1, 2], data: Float64Array.from(best.flatMap((j) => [...values.data.subarray(2 * j, 2 * j + 2)])) };
      const tensors = { query: tf.ones([1, 1]), key: tf.tensor(logits, [1, 10, 1, 1]), value: opTensor(values) };
      await inAllForms(tensors, wanted, { scale: 1 });
    },
  },
];

const zeros = (): AarenTensors => ({ query: tf.zeros([2, 4]), key: tf.zeros([1, 2, 2, 4]), value: tf.zeros([1, 2, 2, 3]) });

const inputs = (length: number, seed: number): Record<string, Array64> => ({
  query: uniform64([2, 4], seed, -2, 2),
  key: uniform64([2, length, 2, 4], seed + 1, -2, 2),
  value: uniform64([2, length, 2, 3], seed + 2),
  maximum: uniform64([2, 2], seed + 3),
  denominator: uniform64([2, 2], seed + 4, 1, 3),
  numerator: uniform64([2, 2, 3], seed + 5),
});

opLaws({
  card,
  inputs,
  gradients: ['query', 'key', 'value', 'maximum', 'denominator', 'numerator'],
  naive: (arrays: Arrays64) => naiveAaren(arrays as unknown as NaiveAarenInputs, 0.5) as unknown as Arrays64,
  forms: Object.fromEntries(
    FORMS.map((form) => [
      form,
      ({ maximum, denominator, numerator, ...rest }: OpTensors) => {
        const state = { maximum: maximum!, denominator: denominator!, numerator: numerator! };
        const result = aaren(rest as unknown as AarenTensors, { form, state });
        return { output: result.output, ...result.state };
      },
    ]),
  ),
  hard: [
    {
      title: 'logits of 1e4 and -1e4, exact in float32',
      inputs: () => mapArrays64(inputs(20, 3), { key: (value) => Math.round(4 * value) * 2500, query: (_, at) => (at % 4 === 0 ? 2 : 0) }),
    },
    {
      title: 'logits near 1e4 that differ by little',
      inputs: () =>
        mapArrays64(inputs(20, 3), { key: (value) => 1e4 + Math.round(64 * value) / 64, query: (_, at) => (at % 4 === 0 ? 2 : 0) }),
    },
    {
      title: 'an empty memory with junk in its maximum',
      inputs: () => mapArrays64(inputs(20, 3), { denominator: () => 0, numerator: () => 0 }),
    },
  ],
  degenerate,
  badInputs: [
    { title: 'a query per token', argument: 'query', call: () => tidy(() => aaren({ ...zeros(), query: tf.zeros([1, 2, 2, 4]) })) },
    { title: 'no tokens', argument: 'key', call: () => tidy(() => aaren({ ...zeros(), key: tf.zeros([1, 0, 2, 4]) })) },
    { title: 'values of other heads', argument: 'value', call: () => tidy(() => aaren({ ...zeros(), value: tf.zeros([1, 2, 3, 3]) })) },
    {
      title: 'a numerator of another width',
      argument: 'state.numerator',
      call: () =>
        tidy(() => {
          const state = { maximum: tf.zeros([1, 2]), denominator: tf.zeros([1, 2]), numerator: tf.zeros([1, 2, 4]) };
          return aaren(zeros(), { state });
        }),
    },
    { title: 'a scale of NaN', argument: 'scale', call: () => tidy(() => aaren(zeros(), { scale: Number.NaN })) },
    { title: 'a form that it has not', argument: 'form', call: () => tidy(() => aaren(zeros(), { form: 'chunk' as 'parallel' })) },
    { title: 'a mask of another length', argument: 'mask', call: () => tidy(() => aaren(zeros(), { mask: tf.ones([1, 3]) })) },
  ],
});

mixerLaws({
  card,
  build: () => new Aaren({ dim: 8, heads: 2, seed: 3 }),
  dims: { heads: 2, valueDim: 4 },
  badConfigs: [{ build: () => new Aaren({ dim: 8, heads: 3 }), argument: 'config.heads' }],
});
mixerLaws({
  card,
  name: 'aaren, parallel, with biases, other widths',
  build: () => new Aaren({ dim: 8, heads: 2, headDim: 3, valueDim: 5, bias: true, form: 'parallel', seed: 3 }),
  dims: { heads: 2, valueDim: 5 },
  // the largest logit so far has kinks
  gradientStep: 1e-3,
});

const timeFirst = (tensor: tf.Tensor): tf.Tensor => tf.transpose(tensor, [0, 2, 1, 3]);
for (const form of FORMS) {
  goldenSuite({
    op: 'aaren',
    name: `aaren, ${form}`,
    folder: new URL('../../golden/aaren/aaren/', import.meta.url),
    run: ({ inputs: given, parameters }) => {
      const { k, v, state_m: maximum, state_u: denominator, state_w: numerator } = given;
      const state = maximum && denominator && numerator ? { state: { maximum, denominator, numerator } } : {};
      const result = aaren({ query: parameters['q']!, key: timeFirst(k!), value: timeFirst(v!) }, { form, ...state });
      const { maximum: final_m, denominator: final_u, numerator: final_w } = result.state;
      return { o: timeFirst(result.output), final_m, final_u, final_w };
    },
  });
}
