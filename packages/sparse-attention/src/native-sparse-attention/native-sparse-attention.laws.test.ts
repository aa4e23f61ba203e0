import { softmaxAttention, tidy } from '@seqloom/core';
import { attentionInputs, goldenSuite, largeLogits, mixerLaws, opLaws, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { card } from './card.ts';
import { emptySparseState } from './decode.ts';
import { NativeSparseAttention } from './layer.ts';
import type { NativeSparseAttentionConfig } from './layer.ts';
import { naiveNativeSparseAttention } from './naive.ts';
import type { NaiveSparseInputs } from './naive.ts';
import { cachedNativeSparseAttention, nativeSparseAttention } from './native-sparse-attention.ts';
import type { SparseInputs, SparseOptions } from './native-sparse-attention.ts';

/** Tokens in three pieces with a cache in between, the last one a single token. */
function decode(inputs: OpTensors, options: SparseOptions): { output: tf.Tensor } {
  const { key, value } = inputs as unknown as SparseInputs;
  const [batch, length, heads, headDim] = key.shape as [number, number, number, number];
  const half = Math.ceil(length / 2);
  const pieces = length < 3 ? [length] : [half, length - half - 1, 1];
  return tidy(() => {
    let state = emptySparseState({ batch, heads, headDim, valueDim: value.shape[3]! });
    let from = 0;
    const outputs: tf.Tensor[] = [];
    for (const count of pieces) {
      const cut = (x: tf.Tensor): tf.Tensor =>
        tf.slice(x, [0, from, ...x.shape.slice(2).map(() => 0)], [batch, count, ...x.shape.slice(2)]);
      const piece = Object.fromEntries(Object.entries(inputs).flatMap(([name, x]) => (x ? [[name, cut(x)]] : [])));
      const result = cachedNativeSparseAttention(piece as unknown as SparseInputs, state, options);
      outputs.push(result.output);
      state = result.state;
      from += count;
    }
    return { output: tf.concat(outputs, 1) };
  });
}

const off = (): tf.Tensor => tf.zeros([2, 9, 2]);
const on = (): tf.Tensor => tf.ones([2, 9, 2]);
type Gates = Pick<SparseInputs, 'compressedGate' | 'selectedGate' | 'windowGate'>;

/** Both forms with one open gate against softmax attention. */
async function equals(gates: () => Gates, options: SparseOptions, window: number | null): Promise<void> {
  const [query, key, value] = [1, 2, 3].map((seed) => tf.randomNormal([2, 9, 2, 4], 0, 1, 'float32', seed)) as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  const inputs = { query, key, value, ...gates() };
  const wanted = tidy(() => softmaxAttention({ query, key, value }, { causal: true, window }).output);
  for (const given of [nativeSparseAttention(inputs, options).output, decode(inputs, options).output]) {
    expect(relativeError64(await given.data(), await wanted.data())).toBeLessThan(1e-5);
    given.dispose();
  }
  tf.dispose([inputs, wanted]);
}

const SMALL = { compressionLength: 4, compressionStride: 2, selectionBlock: 4, selected: 3, window: 3 };
const degenerate: OpSubject['degenerate'] = [
  {
    title: 'as many selected blocks as there are make the selected branch full causal attention',
    run: () => equals(() => ({ compressedGate: off(), selectedGate: on(), windowGate: off() }), SMALL, null),
  },
  {
    title: 'gates of 0, 0 and 1 are sliding-window attention',
    run: () => equals(() => ({ compressedGate: off(), selectedGate: off(), windowGate: on() }), SMALL, 3),
  },
  {
    title: 'compression windows of one token make the compressed branch full causal attention',
    run: () =>
      equals(
        () => ({ compressedGate: on(), selectedGate: off() }),
        { ...SMALL, compressionLength: 1, compressionStride: 1, window: 0 },
        null,
      ),
  },
];

type Sizes = Required<Pick<SparseOptions, 'compressionLength' | 'compressionStride' | 'selectionBlock' | 'selected' | 'window'>>;

function opSubject(sizes: Sizes, heads: number, groups: number, lengths?: readonly number[]): OpSubject {
  const gate = (length: number, seed: number): Array64 => uniform64([2, length, heads], seed, 0, 1);
  const inputs = (length: number, seed: number) => ({
    ...attentionInputs(length, seed, heads, groups),
    compressedGate: gate(length, seed + 3),
    selectedGate: gate(length, seed + 4),
    ...(sizes.window > 0 ? { windowGate: gate(length, seed + 5) } : {}),
  });
  const settings = { ...sizes, initialBlocks: 1, localBlocks: 2 } as const;
  return {
    card,
    name: `native-sparse-attention, ${Object.entries(sizes)
      .map(([name, size]) => `${name} ${size}`)
      .join(', ')}`,
    inputs,
    degenerate,
    gradients: ['query', 'key', 'value', 'compressedGate', 'selectedGate', ...(sizes.window > 0 ? ['windowGate'] : [])],
    ...(lengths ? { lengths } : {}),
    naive: (arrays: Arrays64) => naiveNativeSparseAttention(arrays as unknown as NaiveSparseInputs, settings) as unknown as Arrays64,
    forms: {
      chunk: (tensors) => nativeSparseAttention(tensors as unknown as SparseInputs, sizes),
      decode: (tensors) => decode(tensors, sizes),
    },
    hard: largeLogits(inputs),
    badInputs: [
      {
        title: 'a stride that does not divide the window',
        argument: 'compressionStride',
        call: () => refused({ ...sizes, compressionStride: 3 }),
      },
      { title: 'no selected block', argument: 'selected', call: () => refused({ ...sizes, selected: 0 }) },
    ],
  };
}

function refused(options: SparseOptions): unknown {
  const x = tf.zeros([1, 2, 1, 2]);
  try {
    return nativeSparseAttention({ query: x, key: x, value: x }, options);
  } finally {
    x.dispose();
  }
}

opLaws(opSubject({ compressionLength: 4, compressionStride: 2, selectionBlock: 4, selected: 4, window: 3 }, 4, 2, [1, 7, 65]));
opLaws(opSubject({ compressionLength: 4, compressionStride: 4, selectionBlock: 4, selected: 2, window: 0 }, 2, 1, [1, 7, 63]));

const optionsOf = (config: Readonly<Record<string, unknown>>): SparseOptions => {
  const size = config['block_size'] as number;
  return {
    compressionLength: size,
    compressionStride: size,
    selectionBlock: size,
    selected: config['block_counts'] as number,
    window: config['window_size'] as number,
  };
};

for (const [name, run] of Object.entries({
  chunk: nativeSparseAttention,
  decode: (x: SparseInputs, options: SparseOptions) => decode(x as unknown as OpTensors, options),
})) {
  goldenSuite({
    op: 'nsa',
    name: `nsa, ${name}`,
    folder: new URL('../../golden/native-sparse-attention/nsa/', import.meta.url),
    ...(name === 'decode' ? { cases: ['hard', 'window'] } : {}),
    run: ({ inputs }, { config }) => ({
      o: run(
        {
          query: inputs['q']!,
          key: inputs['k']!,
          value: inputs['v']!,
          compressedGate: inputs['g_cmp'],
          selectedGate: inputs['g_slc'],
          windowGate: inputs['g_swa'],
        },
        optionsOf(config),
      ).output,
    }),
    ignoredOutputs: { block_indices: 'their order means nothing; native-sparse-attention.test.ts compares them as sets' },
  });
}

const variants: [string, NativeSparseAttentionConfig][] = [
  [
    'overlapping windows, grouped heads',
    { dim: 8, heads: 4, kvHeads: 2, compressionLength: 4, compressionStride: 2, selectionBlock: 2, selected: 3, window: 2, seed: 3 },
  ],
  [
    'means, no window',
    {
      dim: 8,
      heads: 2,
      compression: 'mean',
      compressionLength: 2,
      compressionStride: 2,
      selectionBlock: 2,
      selected: 2,
      window: 0,
      seed: 4,
    },
  ],
  ['windows and blocks longer than the sequence', { dim: 8, heads: 2, compression: 'mean', rotaryBase: null }],
];

for (const [name, config] of variants) {
  const { dim, heads, kvHeads = heads, compressionLength = 32, compressionStride = 16 } = config;
  mixerLaws({
    card,
    name: `native-sparse-attention, ${name}`,
    build: () => new NativeSparseAttention(config),
    dims: { kvHeads, headDim: dim / heads, compressionLength, compressionStride },
    // outputs jump where the choice changes: seeds and step keep finite differences on one side
    gradientStep: 1e-3,
    badConfigs: [
      { build: () => new NativeSparseAttention({ dim: 8, heads: 2, compressionStride: 7 }), argument: 'config.compressionStride' },
      { build: () => new NativeSparseAttention({ dim: 8, heads: 2, selected: 0 }), argument: 'config.selected' },
    ],
  });
}
