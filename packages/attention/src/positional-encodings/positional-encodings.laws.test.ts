import { softmaxAttention } from '@seqloom/core';
import { goldenSuite, opLaws, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { alibiSlopes } from './alibi.ts';
import { card } from './card.ts';
import { naiveFrequencies, naiveRotate } from './naive.ts';
import { rotaryEmbedding } from './parallel.ts';
import type { RotaryOptions } from './parallel.ts';
import { rotaryFrequencies } from './rotary-frequencies.ts';

const random = (shape: number[], seed: number): tf.Tensor => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** Scores [T, T] of one head's rotated queries and keys. */
function scores(query: tf.Tensor, key: tf.Tensor, start: number, options: RotaryOptions): tf.Tensor {
  return tf.tidy(() => {
    const [length, width] = [query.shape[1]!, query.shape[3]!];
    const rotated = rotaryEmbedding({ query, key, positions: { start, length } }, options);
    const flat = (x: tf.Tensor): tf.Tensor2D => tf.reshape(x, [length, width]);
    return tf.matMul(flat(rotated.query), flat(rotated.key), false, true);
  });
}

async function close(given: tf.Tensor, wanted: tf.Tensor, tolerance = 1e-5): Promise<void> {
  expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(tolerance);
  tf.dispose([given, wanted]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'factor 1 makes linear, NTK and YaRN scaling plain rotary embedding',
    run: async () => {
      const [query, key] = [random([1, 4, 1, 8], 1), random([1, 4, 1, 8], 2)];
      for (const scaling of [
        { type: 'linear', factor: 1 },
        { type: 'ntk', factor: 1 },
        { type: 'yarn', factor: 1, originalLength: 16 },
      ] as const)
        await close(scores(query, key, 3, { scaling }), scores(query, key, 3, {}));
      tf.dispose([query, key]);
    },
  },
  {
    title: 'interleaved and half-split layouts give the same scores after a permutation of channels',
    run: async () => {
      const [query, key] = [random([1, 4, 1, 8], 1), random([1, 4, 1, 8], 2)];
      // channel 2r + i of the interleaved layout is channel r + 4i of the other
      const order = tf.tensor1d([0, 4, 1, 5, 2, 6, 3, 7], 'int32');
      const woven = [tf.gather(query, order, 3), tf.gather(key, order, 3)] as const;
      await close(scores(...woven, 3, { interleaved: true }), scores(query, key, 3, {}));
      tf.dispose([query, key, order, ...woven]);
    },
  },
  {
    title: 'xPos scores depend on the distance alone',
    run: async () => {
      const [query, key] = [random([1, 4, 1, 8], 1), random([1, 4, 1, 8], 2)];
      await close(scores(query, key, 1000, { xpos: {} }), scores(query, key, 0, { xpos: {} }), 2e-5);
      tf.dispose([query, key]);
    },
  },
];

// rows stand at different places, one of them far out
const OFFSETS = [5, 70_000];

for (const [name, options] of [
  ['half-split', {}],
  ['interleaved, partial', { interleaved: true, dims: 4 }],
] as const satisfies readonly (readonly [string, RotaryOptions])[]) {
  const { dims = 6, interleaved = false }: RotaryOptions = options;
  opLaws({
    card,
    name: `positional-encodings, ${name}`,
    degenerate,
    gradients: ['query', 'key'],
    inputs: (length, seed) => ({
      query: uniform64([2, length, 2, 6], seed),
      key: uniform64([2, length, 1, 6], seed + 1),
      positions: {
        shape: [2, length],
        data: Float64Array.from({ length: 2 * length }, (_, i) => OFFSETS[Math.floor(i / length)]! + (i % length)),
      },
    }),
    naive: ({ query, key, positions }: Arrays64) => {
      const turn = ({ shape, data }: Array64): Array64 => {
        const [, , heads, width] = shape as [number, number, number, number];
        const vectors = Array.from({ length: data.length / width }, (_, i) => [...data.subarray(i * width, (i + 1) * width)]);
        const frequencies = naiveFrequencies(dims);
        const turned = vectors.flatMap((vector, i) =>
          naiveRotate(vector, positions!.data[Math.floor(i / heads)]!, frequencies, interleaved),
        );
        return { shape, data: Float64Array.from(turned) };
      };
      return { query: turn(query!), key: turn(key!) };
    },
    forms: {
      parallel: ({ query, key, positions }) => rotaryEmbedding({ query: query!, key: key!, positions: positions! }, options),
    },
    badInputs: [
      {
        title: 'more rotated channels than there are',
        argument: 'options.dims',
        call: () =>
          tf.tidy(() => {
            const x = tf.zeros([1, 1, 1, 2]);
            return rotaryEmbedding({ query: x, key: x, positions: { start: 0, length: 1 } }, { dims: 4 });
          }),
      },
    ],
  });
}

const folder = (op: string): URL => new URL(`../../golden/positional-encodings/${op}/`, import.meta.url);
const swap = (x: tf.Tensor): tf.Tensor => tf.transpose(x, [0, 2, 1, 3]);

for (const onDevice of [false, true]) {
  goldenSuite({
    op: 'rotary-half',
    name: `rotary-half, positions ${onDevice ? 'in a tensor' : 'from a start'}`,
    folder: folder('rotary-half'),
    run: ({ inputs }, { config }) => {
      const [query, key] = [swap(inputs['q']!), swap(inputs['k']!)];
      const [batch, length] = query.shape as [number, number];
      const start = config['offset'] as number;
      const rows = tf.tile(tf.reshape(tf.range(start, start + length), [1, length]), [batch, 1]);
      const rotated = rotaryEmbedding({ query, key, positions: onDevice ? rows : { start, length } }, { base: config['theta'] as number });
      return { q_rot: swap(rotated.query), k_rot: swap(rotated.key) };
    },
  });
}

goldenSuite({
  op: 'rotary-interleaved-yarn',
  folder: folder('rotary-interleaved-yarn'),
  run: ({ inputs }, { config }) => {
    const query = inputs['q']!;
    const { original_seq_len: originalLength, max_seq_len: length, rope_factor: factor } = config as Record<string, number>;
    // the original code scales only where the sequence may outgrow the trained length, and has its temperature elsewhere
    const scaling =
      length! > originalLength! ? ({ type: 'yarn', factor: factor!, originalLength: originalLength!, magnitude: 1 } as const) : null;
    const base = config['theta'] as number;
    const rotated = rotaryEmbedding(
      { query, key: query, positions: { start: 0, length: query.shape[1]! } },
      { base, interleaved: true, scaling },
    );
    return {
      o: rotated.query,
      angles: tf.tensor2d([...rotaryFrequencies(query.shape[3]!, base, scaling).frequencies], [1, query.shape[3]! / 2]),
    };
  },
});

goldenSuite({
  op: 'alibi',
  folder: folder('alibi'),
  run: ({ inputs }) => {
    const [query, key, value] = [swap(inputs['q']!), swap(inputs['k']!), swap(inputs['v']!)];
    const slopes = tf.tensor1d(alibiSlopes(query.shape[2]!));
    return { o: swap(softmaxAttention({ query, key, value, slopes }, { causal: true }).output), slopes };
  },
});
