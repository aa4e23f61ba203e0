import { attentionInputs, goldenSuite, largeLogits, mixerLaws, opLaws, relativeError64 } from '@seqloom/testing';
import type { Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import { tidy, softmaxAttention } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import type { Heads } from '../blocks/list-attention.ts';
import { card } from './card.ts';
import { emptyMobaState } from './decode.ts';
import { MobaAttention } from './layer.ts';
import type { MobaAttentionConfig } from './layer.ts';
import { cachedMobaAttention, mobaAttention } from './moba.ts';
import type { MobaOptions } from './moba.ts';
import { naiveMoba } from './naive.ts';
import type { NaiveMobaInputs } from './naive.ts';

const cut = (x: tf.Tensor, from: number, count: number): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, count, -1, -1]);

/** Tokens in three pieces with a cache in between, the last one a single token. */
function decode(inputs: OpTensors, options: MobaOptions): { output: tf.Tensor } {
  const { query, key, value } = inputs as unknown as Heads;
  const [batch, length, groups, headDim] = key.shape as [number, number, number, number];
  return tidy(() => {
    let state = emptyMobaState({ batch, heads: groups, headDim, valueDim: value.shape[3]! });
    const outputs: tf.Tensor[] = [];
    const half = Math.ceil(length / 2);
    for (const [from, count] of [
      [0, half],
      [half, length - half - 1],
      [length - 1, 1],
    ] as const) {
      if (count <= 0 || from < outputs.reduce((sum, piece) => sum + piece.shape[1]!, 0)) continue;
      const piece = { query: cut(query, from, count), key: cut(key, from, count), value: cut(value, from, count) };
      const result = cachedMobaAttention(piece, state, options);
      outputs.push(result.output);
      state = result.state;
    }
    return { output: tf.concat(outputs, 1) };
  });
}

/** Both forms against full attention with a mask of the keys that are seen. */
async function equals(options: MobaOptions, bias: (heads: Heads) => tf.Tensor | Promise<tf.Tensor>): Promise<void> {
  const [query, key, value] = [1, 2, 3].map((seed) => tf.randomNormal([2, 9, 2, 4], 0, 1, 'float32', seed)) as tf.Tensor[];
  const heads = { query: query!, key: key!, value: value! };
  const seen = await bias(heads);
  const wanted = tidy(() => softmaxAttention({ ...heads, bias: seen }, { causal: true }).output);
  for (const given of [mobaAttention(heads, options).output, decode(heads, options).output]) {
    expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
    given.dispose();
  }
  tf.dispose([heads, seen, wanted]);
}

/** [1, 1, 9, 9], 0 where a query sees a key. */
const mask = (sees: (i: number, j: number) => boolean): tf.Tensor =>
  tf.tensor([[Array.from({ length: 9 }, (_, i) => Array.from({ length: 9 }, (__, j) => (sees(i, j) ? 0 : -Infinity)))]]);

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'as many chosen blocks as there are is full causal attention',
    run: () => equals({ blockSize: 4, topK: 3 }, () => mask(() => true)),
  },
  {
    title: 'one chosen block is causal attention inside each block',
    run: () => equals({ blockSize: 4, topK: 1 }, () => mask((i, j) => Math.floor(i / 4) === Math.floor(j / 4))),
  },
  {
    title: 'blocks of one token attend to the best keys and to the query itself',
    run: () =>
      equals({ blockSize: 1, topK: 3 }, async ({ query, key }) => {
        const scores = tidy(() => {
          const [q, k] = [query, key].map((x) => tf.transpose(x, [0, 2, 1, 3])) as [tf.Tensor, tf.Tensor];
          return tf.matMul(q, k, false, true) as tf.Tensor4D;
        });
        const rows = await scores.array();
        scores.dispose();
        return tf.tensor(
          rows.map((row) =>
            row.map((head) =>
              head.map((all, i) => {
                const best = new Set(
                  [...all.keys()]
                    .slice(0, i)
                    .toSorted((a, b) => all[b]! - all[a]!)
                    .slice(0, 2),
                ).add(i);
                return all.map((_, j) => (best.has(j) ? 0 : -Infinity));
              }),
            ),
          ),
        );
      }),
  },
];

function opSubject(options: MobaOptions, heads: number, groups: number, lengths?: readonly number[]): OpSubject {
  const inputs = (length: number, seed: number) => attentionInputs(length, seed, heads, groups);
  return {
    card,
    name: `moba, blocks of ${options.blockSize}, top ${options.topK}, ${heads} query heads and ${groups} key heads`,
    inputs,
    degenerate,
    gradients: ['query', 'key', 'value'],
    ...(lengths ? { lengths } : {}),
    naive: (arrays: Arrays64) => naiveMoba(arrays as unknown as NaiveMobaInputs, options) as unknown as Arrays64,
    forms: {
      chunk: (tensors) => mobaAttention(tensors as unknown as Heads, options),
      decode: (tensors) => decode(tensors, options),
    },
    hard: largeLogits(inputs),
    badInputs: [
      { title: 'a block of no tokens', argument: 'blockSize', call: () => refused({ ...options, blockSize: 0 }) },
      { title: 'no chosen block', argument: 'topK', call: () => refused({ ...options, topK: 0 }) },
    ],
  };
}

function refused(options: MobaOptions): unknown {
  const x = tf.zeros([1, 2, 1, 2]);
  try {
    return mobaAttention({ query: x, key: x, value: x }, options);
  } finally {
    x.dispose();
  }
}

opLaws(opSubject({ blockSize: 4, topK: 2 }, 2, 1, [1, 7, 65]));
opLaws(opSubject({ blockSize: 8, topK: 3, scale: 0.8 }, 2, 2, [1, 7, 63]));

goldenSuite({
  op: 'moba',
  folder: new URL('../../golden/moba/moba/', import.meta.url),
  run: ({ inputs }, { config }) => {
    const options = { blockSize: config['chunk_size'] as number, topK: config['topk'] as number };
    return { o: mobaAttention({ query: inputs['q']!, key: inputs['k']!, value: inputs['v']! }, options).output };
  },
});

goldenSuite({
  op: 'moba',
  name: 'moba, decode',
  folder: new URL('../../golden/moba/moba/', import.meta.url),
  cases: ['medium', 'state'],
  run: ({ inputs }, { config }) => {
    const options = { blockSize: config['chunk_size'] as number, topK: config['topk'] as number };
    return { o: decode({ query: inputs['q']!, key: inputs['k']!, value: inputs['v']! }, options).output };
  },
});

const variants: [string, MobaAttentionConfig][] = [
  ['grouped heads', { dim: 8, heads: 4, kvHeads: 2, blockSize: 2, topK: 2, seed: 4 }],
  ['more blocks than fit the sequence', { dim: 8, heads: 2, blockSize: 3, topK: 9, rotaryBase: 100 }],
  ['a block longer than the sequence, no positions', { dim: 8, heads: 2, blockSize: 40, rotaryBase: null }],
];

for (const [name, config] of variants) {
  const { dim, heads, kvHeads = heads, blockSize = 512 } = config;
  mixerLaws({
    card,
    name: `moba, ${name}`,
    build: () => new MobaAttention({ seed: 3, ...config }),
    dims: { kvHeads, headDim: dim / heads, blockSize },
    // outputs jump where the choice changes: seeds and step keep finite differences on one side
    gradientStep: 1e-3,
    badConfigs: [
      { build: () => new MobaAttention({ dim: 8, heads: 2, topK: 0 }), argument: 'config.topK' },
      { build: () => new MobaAttention({ dim: 8, heads: 2, blockSize: 0.5 }), argument: 'config.blockSize' },
      { build: () => new MobaAttention({ dim: 6, heads: 2 }), argument: 'config.headDim' },
    ],
  });
}
