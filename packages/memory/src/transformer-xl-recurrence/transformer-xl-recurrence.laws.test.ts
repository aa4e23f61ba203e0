import { softmaxAttention, tidy } from '@seqloom/core';
import { mixerLaws, opLaws, opTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { TransformerXlRecurrence } from './layer.ts';
import type { TransformerXlRecurrenceConfig } from './layer.ts';
import { naiveTransformerXlAttention } from './naive.ts';
import type { NaiveTransformerXlInputs } from './naive.ts';
import { positionScores } from './parallel.ts';
import { transformerXlAttention } from './transformer-xl-recurrence.ts';
import type { TransformerXlInputs } from './transformer-xl-recurrence.ts';

const FORMS = ['parallel', 'chunk'] as const;
// keys of the memory, before the first query
const CACHED = 3;

const arrays = (length: number, seed: number): Record<string, Array64> => ({
  query: uniform64([2, length, 2, 3], seed, -2, 2),
  key: uniform64([2, length + CACHED, 2, 3], seed + 1, -2, 2),
  value: uniform64([2, length + CACHED, 2, 4], seed + 2),
  relative: uniform64([length + CACHED, 2, 3], seed + 3),
  contentBias: uniform64([2, 3], seed + 4),
  positionBias: uniform64([2, 3], seed + 5),
});

const tensors = (length: number, seed: number): TransformerXlInputs =>
  Object.fromEntries(
    Object.entries(arrays(length, seed)).map(([name, array]) => [name, opTensor(array)]),
  ) as unknown as TransformerXlInputs;

const close = async (given: tf.Tensor, wanted: tf.Tensor): Promise<void> => {
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
};

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'with relative keys and biases of zeros it is causal softmax attention',
    run: async () => {
      const inputs = tensors(9, 1);
      const plain = tidy(() => softmaxAttention(inputs, { causal: true }).output);
      for (const form of FORMS) {
        const output = tidy(() => {
          const zero = (x: tf.Tensor): tf.Tensor => tf.zerosLike(x);
          const none = { relative: zero(inputs.relative), contentBias: zero(inputs.contentBias), positionBias: zero(inputs.positionBias) };
          return transformerXlAttention({ ...inputs, ...none }, { form, chunkSize: 4 }).output;
        });
        await close(output, plain);
        output.dispose();
      }
      tf.dispose([plain, { ...inputs }]);
    },
  },
  {
    title: 'with a reach of 0 every output is its own value',
    run: async () => {
      const inputs = tensors(9, 1);
      const own = tf.slice(inputs.value, [0, CACHED, 0, 0], [2, 9, 2, 4]);
      for (const form of FORMS) {
        const { output } = transformerXlAttention(inputs, { form, chunkSize: 4, reach: 0 });
        await close(output, own);
        output.dispose();
      }
      tf.dispose([own, { ...inputs }]);
    },
  },
  {
    title: 'with a reach of all keys it is the form without a reach',
    run: async () => {
      const inputs = tensors(9, 1);
      for (const form of FORMS) {
        const [a, b] = [9 + CACHED, null].map((reach) => transformerXlAttention(inputs, { form, chunkSize: 4, reach }).output);
        await close(a!, b!);
        tf.dispose([a!, b!]);
      }
      tf.dispose({ ...inputs });
    },
  },
  {
    title: 'the relative shift is the brute-force (q_i + v) r_(i - j)',
    run: async () => {
      const inputs = tensors(5, 1);
      const given = arrays(5, 1);
      const shifted = tidy(() => positionScores(inputs));
      const values = await shifted.data();
      const keys = 5 + CACHED;
      for (let b = 0; b < 2; b++)
        for (let h = 0; h < 2; h++)
          for (let i = 0; i < 5; i++)
            for (let j = 0; j <= i + CACHED; j++) {
              let wanted = 0;
              for (let d = 0; d < 3; d++) {
                const q = given.query!.data[((b * 5 + i) * 2 + h) * 3 + d]! + given.positionBias!.data[h * 3 + d]!;
                wanted += q * given.relative!.data[((keys - 1 - (i + CACHED - j)) * 2 + h) * 3 + d]!;
              }
              expect(values[((b * 2 + h) * 5 + i) * keys + j]).toBeCloseTo(wanted / Math.sqrt(3), 5);
            }
      tf.dispose([shifted, { ...inputs }]);
    },
  },
];

function subjectOf(name: string, { reach, segment, lengths }: { reach?: number; segment?: number; lengths?: number[] }): OpSubject {
  // first key of the 2 before the query's segment; segments of both rows begin at other places
  const earliest = (row: number, i: number): number => (segment ? Math.floor((i + row) / segment) * segment - row + CACHED - 2 : 0);
  return {
    card,
    name,
    degenerate,
    ...(lengths ? { lengths } : {}),
    inputs: arrays,
    gradients: ['query', 'key', 'value', 'relative', 'contentBias', 'positionBias'],
    naive: (inputs) =>
      naiveTransformerXlAttention(inputs as unknown as NaiveTransformerXlInputs, {
        ...(reach === undefined ? {} : { reach }),
        earliest,
      }) as unknown as Arrays64,
    forms: Object.fromEntries(
      FORMS.map((form) => [
        form,
        (inputs) =>
          tidy(() => {
            const length = inputs.query!.shape[1]!;
            const first = [0, 1].map((row) => Array.from({ length }, (_, i) => earliest(row, i)));
            const settings = { form, chunkSize: 16, reach: reach ?? null, ...(segment ? { earliest: tf.tensor2d(first) } : {}) };
            return transformerXlAttention(inputs as unknown as TransformerXlInputs, settings) as unknown as Record<string, tf.Tensor>;
          }),
      ]),
    ),
    hard: [
      {
        title: 'logits of 1e4',
        // float32 keeps a logit of that size to 1e-3
        tolerance: 1e-3,
        inputs: () => {
          const given = arrays(20, 3);
          given.query!.data.forEach((value, at, data) => (data[at] = Math.fround(5e3 * value)));
          return given;
        },
      },
    ],
    badInputs: [
      {
        title: 'a query of rank 3',
        argument: 'query',
        call: () => tidy(() => transformerXlAttention({ ...shapes(2), query: tf.zeros([1, 2, 6]) })),
      },
      {
        title: 'distances for fewer keys',
        argument: 'relative',
        call: () => tidy(() => transformerXlAttention({ ...shapes(2), relative: tf.zeros([1, 2, 3]) })),
      },
      { title: 'a negative reach', argument: 'reach', call: () => tidy(() => transformerXlAttention(shapes(2), { reach: -1 })) },
      { title: 'chunks of nothing', argument: 'chunkSize', call: () => tidy(() => transformerXlAttention(shapes(2), { chunkSize: 0 })) },
      {
        title: 'more queries than keys',
        argument: 'key',
        call: () => tidy(() => transformerXlAttention({ ...shapes(2), query: tf.zeros([1, 3, 2, 3]) })),
      },
    ],
  };
}

const shapes = (keys: number): TransformerXlInputs => ({
  query: tf.zeros([1, keys, 2, 3]),
  key: tf.zeros([1, keys, 2, 3]),
  value: tf.zeros([1, keys, 2, 3]),
  relative: tf.zeros([keys, 2, 3]),
  contentBias: tf.zeros([2, 3]),
  positionBias: tf.zeros([2, 3]),
});

opLaws(subjectOf('transformer-xl-recurrence', { reach: 5, lengths: [1, 7, 65] }));
opLaws(subjectOf('transformer-xl-recurrence without a reach', {}));
opLaws(subjectOf('transformer-xl-recurrence in segments', { segment: 8, reach: 9, lengths: [1, 7, 65] }));

const LAYERS: [string, Partial<TransformerXlRecurrenceConfig>][] = [
  ['memory of inputs', { memoryLength: 4 }],
  ['segments, clamped distances', { memoryLength: 3, segmentLength: 4, clampLength: 4, chunkSize: 4 }],
  ['memory of keys, parallel', { memoryLength: 4, cache: 'keys', form: 'parallel', headDim: 3 }],
];
for (const [name, config] of LAYERS) {
  mixerLaws({
    card,
    name: `transformer-xl-recurrence, ${name}`,
    build: () => new TransformerXlRecurrence({ dim: 8, heads: 2, memoryLength: 4, seed: 3, ...config }),
    ...(config.cache === 'keys' ? {} : { dims: { dim: 8, memoryLength: config.memoryLength!, segmentLength: config.segmentLength ?? 1 } }),
    badConfigs: [
      { build: () => new TransformerXlRecurrence({ dim: 8, heads: 3, memoryLength: 4 }), argument: 'config.heads' },
      { build: () => new TransformerXlRecurrence({ dim: 8, heads: 2, memoryLength: -1 }), argument: 'config.memoryLength' },
    ],
  });
}
