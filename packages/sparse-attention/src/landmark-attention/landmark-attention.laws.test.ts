import { softmaxAttention, tidy } from '@seqloom/core';
import { attentionInputs, goldenSuite, largeLogits, mixerLaws, opLaws, relativeError64 } from '@seqloom/testing';
import type { Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import type { Heads } from '../blocks/list-attention.ts';
import { card } from './card.ts';
import { emptyLandmarkState } from './decode.ts';
import { cachedLandmarkAttention, landmarkAttention } from './landmark-attention.ts';
import type { LandmarkOptions } from './landmark-attention.ts';
import { LandmarkAttention } from './layer.ts';
import type { LandmarkAttentionConfig } from './layer.ts';
import { naiveLandmarkAttention } from './naive.ts';
import type { NaiveLandmarkInputs } from './naive.ts';

/** Tokens in three pieces with a cache in between, the last one a single token. */
function decode(inputs: OpTensors, options: LandmarkOptions): { output: tf.Tensor } {
  const { query, key, value } = inputs as unknown as Heads;
  const [batch, length, heads, headDim] = key.shape as [number, number, number, number];
  const half = Math.ceil(length / 2);
  const pieces = length < 3 ? [length] : [half, length - half - 1, 1];
  return tidy(() => {
    let state = emptyLandmarkState({ batch, heads, headDim, valueDim: value.shape[3]! });
    let from = 0;
    const outputs: tf.Tensor[] = [];
    for (const count of pieces) {
      const cut = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, count, -1, -1]);
      const result = cachedLandmarkAttention({ query: cut(query), key: cut(key), value: cut(value) }, state, options);
      outputs.push(result.output);
      state = result.state;
      from += count;
    }
    return { output: tf.concat(outputs, 1) };
  });
}

const random = (length: number): Heads => {
  const [query, key, value] = [1, 2, 3].map((seed) => tf.randomNormal([2, length, 2, 4], 0, 1, 'float32', seed)) as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  return { query, key, value };
};

/** Both forms with the given options against something else. */
async function equals(heads: Heads, options: LandmarkOptions, other: (heads: Heads) => tf.Tensor): Promise<void> {
  const wanted = tidy(() => other(heads));
  for (const given of [landmarkAttention(heads, options).output, decode({ ...heads }, options).output]) {
    expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
    given.dispose();
  }
  tf.dispose([{ ...heads }, wanted]);
}

const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a sequence shorter than a block is ordinary causal attention',
    run: () => equals(random(4), { blockLength: 5 }, (heads) => softmaxAttention(heads, { causal: true }).output),
  },
  {
    title: 'landmark logits that are the log-sum-exp of their blocks give full attention over ordinary tokens',
    run: () => {
      const heads = random(11);
      const isLandmark = Array.from({ length: 11 }, (_, t) => t % 4 === 3);
      // one channel counts: the three ordinary keys of a block are equal, so their log-sum-exp is one of them plus ln 3
      const levels = [0.5, -1, 2];
      const key = tf.tensor(
        Array.from({ length: 11 * 16 }, (_, n) => {
          const t = Math.floor(n / 8) % 11;
          return n % 4 === 0 ? levels[Math.floor(t / 4)]! + (isLandmark[t] ? 2 * Math.log(3) : 0) : 0;
        }),
        [2, 11, 2, 4],
      );
      const query = tf.tensor(
        Array.from({ length: 11 * 16 }, (_, n) => (n % 4 === 0 ? 1 : 0)),
        [2, 11, 2, 4],
      );
      tf.dispose([heads.query, heads.key]);
      return equals({ ...heads, query, key }, { blockLength: 4 }, (given) => {
        const keyPositions = tf.tensor2d([0, 1].map(() => isLandmark.map((is, t) => (is ? -1 : t))));
        return softmaxAttention({ ...given, keyPositions }, { causal: true }).output;
      });
    },
  },
  {
    title: 'retrieving as many blocks as there are gives the grouped softmax of training',
    run: () =>
      equals(
        random(11),
        { blockLength: 3, retrieved: 3, rotaryBase: 50 },
        (heads) => landmarkAttention(heads, { blockLength: 3, rotaryBase: 50 }).output,
      ),
  },
  {
    title: 'stingy positions equal absolute ones while no more blocks are there than are retrieved',
    run: () =>
      equals(
        random(11),
        { blockLength: 3, retrieved: 3, rotaryBase: 50, positions: 'stingy' },
        (heads) => landmarkAttention(heads, { blockLength: 3, retrieved: 3, rotaryBase: 50 }).output,
      ),
  },
];

function opSubject(options: LandmarkOptions, heads: number, groups: number, lengths: readonly number[]): OpSubject {
  const inputs = (length: number, seed: number) => attentionInputs(length, seed, heads, groups);
  const { retrieved = null, rotaryBase = null, positions = 'absolute' } = options;
  const settings = { ...options, retrieved, rotaryBase, positions };
  return {
    card,
    name: `landmark-attention, ${retrieved === null ? 'all blocks' : `${retrieved} blocks, ${positions} positions`}`,
    inputs,
    degenerate,
    gradients: ['query', 'key', 'value'],
    lengths,
    naive: (arrays: Arrays64) => naiveLandmarkAttention(arrays as unknown as NaiveLandmarkInputs, settings) as unknown as Arrays64,
    forms: {
      chunk: (tensors) => landmarkAttention(tensors as unknown as Heads, options),
      decode: (tensors) => decode(tensors, options),
    },
    hard: largeLogits(inputs),
    badInputs: [
      { title: 'a block that is a landmark alone', argument: 'blockLength', call: () => refused({ ...options, blockLength: 1 }) },
      { title: 'no retrieved block', argument: 'retrieved', call: () => refused({ ...options, retrieved: 0 }) },
    ],
  };
}

function refused(options: LandmarkOptions): unknown {
  const x = tf.zeros([1, 2, 1, 2]);
  try {
    return landmarkAttention({ query: x, key: x, value: x }, options);
  } finally {
    x.dispose();
  }
}

opLaws(opSubject({ blockLength: 4, retrieved: 2, rotaryBase: 100, positions: 'stingy' }, 2, 1, [1, 7, 65]));
opLaws(opSubject({ blockLength: 8, rotaryBase: 100 }, 2, 2, [1, 7, 65]));
opLaws(opSubject({ blockLength: 5, retrieved: 3 }, 4, 2, [1, 7, 63]));

const headFirst = (x: tf.Tensor): tf.Tensor => tf.transpose(x, [0, 2, 1, 3]);
for (const [name, run] of Object.entries({
  chunk: landmarkAttention,
  decode: (heads: Heads, options: LandmarkOptions) => decode({ ...heads }, options),
})) {
  goldenSuite({
    op: 'landmark-grouped-softmax',
    name: `landmark-grouped-softmax, ${name}`,
    folder: new URL('../../golden/landmark-attention/landmark-grouped-softmax/', import.meta.url),
    run: ({ inputs }, { config }) => {
      const heads = { query: headFirst(inputs['q']!), key: headFirst(inputs['k']!), value: headFirst(inputs['v']!) };
      return { o: headFirst(run(heads, { blockLength: (config['mem_freq'] as number) + 1 }).output) };
    },
    ...(name === 'decode' ? { cases: ['hard', 'state'] } : {}),
    ignoredOutputs: { probs: 'weights are never formed; landmark-attention.test.ts reads them off values that are an identity' },
  });
}

const variants: [string, LandmarkAttentionConfig][] = [
  ['stingy retrieval, grouped heads', { dim: 8, heads: 4, kvHeads: 2, blockLength: 2, retrieved: 2, positions: 'stingy', seed: 3 }],
  ['all blocks', { dim: 8, heads: 2, blockLength: 3, rotaryBase: 100, seed: 3 }],
  ['retrieval at true distances, no rotation', { dim: 8, heads: 2, blockLength: 3, retrieved: 1, rotaryBase: null, seed: 3 }],
];

for (const [name, config] of variants) {
  const { dim, heads, kvHeads = heads } = config;
  mixerLaws({
    card,
    name: `landmark-attention, ${name}`,
    build: () => new LandmarkAttention(config),
    dims: { kvHeads, headDim: dim / heads },
    // outputs jump where the choice changes: seeds and step keep finite differences on one side
    gradientStep: 1e-3,
    badConfigs: [
      { build: () => new LandmarkAttention({ dim: 8, heads: 2, blockLength: 1 }), argument: 'config.blockLength' },
      { build: () => new LandmarkAttention({ dim: 8, heads: 2, positions: 'stingy' }), argument: 'config.positions' },
    ],
  });
}
