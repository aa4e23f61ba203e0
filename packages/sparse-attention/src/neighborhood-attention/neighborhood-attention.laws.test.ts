import { softmaxAttention } from '@seqloom/core';
import type { State } from '@seqloom/core';
import { goldenSuite, mapArrays64, mixerLaws, opLaws, randomTensor, relativeError64, uniform64 } from '@seqloom/testing';
import type { Array64, Arrays64, OpForm, OpSubject, OpTensors } from '@seqloom/testing';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { neighborhoodAxes } from './axes.ts';
import { card } from './card.ts';
import { neighborhoodCacheShapes, rollingNeighborhood } from './decode.ts';
import { NeighborhoodAttention } from './layer.ts';
import type { NeighborhoodAttentionConfig } from './layer.ts';
import { naiveNeighborhoodAttention } from './naive.ts';
import { neighborhoodAttention } from './neighborhood-attention.ts';
import type { NeighborhoodInputs, NeighborhoodOptions } from './neighborhood-attention.ts';

const FORMS = ['gathered', 'parallel'] as const;

/** Attends piece by piece with a rolling cache: the first half at once, then one by one. */
function decode(inputs: OpTensors, window: number, dilation: number): { output: tf.Tensor } {
  const given = inputs as unknown as NeighborhoodInputs;
  const [batch, length, heads, headDim] = given.key.shape as [number, number, number, number];
  const cut = (x: tf.Tensor, from: number, count: number): tf.Tensor => tf.slice(x, [0, from, 0, 0], [-1, count, -1, -1]);
  return tf.tidy(() => {
    const shapes = neighborhoodCacheShapes(batch, { window, dilation, heads, headDim, valueDim: given.value.shape[3]! });
    const zeros = Object.entries(shapes).map(([name, shape]) => [name, tf.zeros(shape as number[])] as const);
    let state = { ...Object.fromEntries(zeros), position: tf.zeros([batch]) } as unknown as State;
    const outputs: tf.Tensor[] = [];
    for (let from = 0; from < length;) {
      const count = from === 0 ? Math.ceil(length / 2) : 1;
      const tokens = { query: cut(given.query, from, count), key: cut(given.key, from, count), value: cut(given.value, from, count) };
      const result = rollingNeighborhood(tokens, state, { window, dilation });
      outputs.push(result.output);
      state = result.state;
      from += count;
    }
    return { output: tf.concat(outputs, 1) };
  });
}

/** Random heads of one row on a grid, and what a check makes of the output of each form. */
async function inAllForms(
  grid: number[],
  options: NeighborhoodOptions,
  wanted: (heads: { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor }) => tf.Tensor,
): Promise<void> {
  const heads = {
    query: randomTensor([2, ...grid, 2, 4], 1),
    key: randomTensor([2, ...grid, 2, 4], 2),
    value: randomTensor([2, ...grid, 2, 4], 3),
  };
  const right = tf.tidy(() => wanted(heads));
  for (const form of FORMS) {
    const output = tf.tidy(() => neighborhoodAttention(heads, { ...options, form }).output);
    expect(output.shape).toEqual(heads.value.shape);
    expect(relativeError64(await output.data(), await right.data())).toBeLessThan(1e-5);
    output.dispose();
  }
  tf.dispose([heads, right]);
}

const flat = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [2, -1, 2, 4]);
const degenerate: OpSubject['degenerate'] = [
  {
    title: 'a window as long as every axis is full attention',
    run: () =>
      inAllForms(
        [3, 4],
        { window: [3, 4] },
        ({ query, key, value }) => softmaxAttention({ query: flat(query), key: flat(key), value: flat(value) }).output,
      ),
  },
  {
    title: 'one causal axis with a window as long as it is causal attention',
    run: () => inAllForms([9], { window: 9, causal: true }, (heads) => softmaxAttention(heads, { causal: true }).output),
  },
  {
    title: 'dilation is neighborhood attention on each sub-grid',
    run: () =>
      inAllForms([7], { window: 3, dilation: 2 }, (heads) => {
        const on = (residue: number, count: number): tf.Tensor => {
          const take = (x: tf.Tensor): tf.Tensor => tf.stridedSlice(x, [0, residue, 0, 0], [2, 7, 2, 4], [1, 2, 1, 1]);
          const sub = { query: take(heads.query), key: take(heads.key), value: take(heads.value) };
          expect(sub.key.shape[1]).toBe(count);
          return neighborhoodAttention(sub, { window: 3 }).output;
        };
        const [even, odd] = [on(0, 4), on(1, 3)];
        const filled = tf.pad(odd, [[0, 0], [0, 1], [0, 0], [0, 0]]); // prettier-ignore
        return tf.slice(tf.reshape(tf.stack([even, filled], 2), [2, 8, 2, 4]), [0, 0, 0, 0], [2, 7, 2, 4]);
      }),
  },
  {
    title: 'a stride equal to a window that divides the axis is attention in blocks',
    run: () =>
      inAllForms([12], { window: 4, stride: 4 }, ({ query, key, value }) => {
        const blocks = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [6, 4, 2, 4]);
        return softmaxAttention({ query: blocks(query), key: blocks(key), value: blocks(value) }).output;
      }),
  },
  {
    title: 'a window of 1 gives every token its own value',
    run: () => inAllForms([4, 3], { window: 1 }, ({ value }) => tf.clone(value)),
  },
];

interface Variant {
  readonly name: string;
  readonly options: NeighborhoodOptions;
  /** axes behind the first */
  readonly rest?: readonly number[];
  /** keys that every query sees */
  readonly extra?: number;
  readonly lengths: readonly number[];
}

function subject({ name, options, rest = [], extra = 0, lengths }: Variant): OpSubject {
  const axes = neighborhoodAxes(card.id, 1 + rest.length, options, 'options.');
  const { window, dilation, stride, causal } = axes[0]!;
  const decodes = rest.length === 0 && causal && stride === 1;
  const inputs = (length: number, seed: number): Record<string, Array64> => ({
    query: uniform64([2, length, ...rest, 2, 4], seed, -2, 2),
    key: uniform64([2, length, ...rest, 1, 4], seed + 1, -2, 2),
    value: uniform64([2, length, ...rest, 1, 3], seed + 2),
    ...(extra ? { extraKey: uniform64([2, extra, 1, 4], seed + 3, -2, 2), extraValue: uniform64([2, extra, 1, 3], seed + 4) } : {}),
  });
  const run =
    (form: (typeof FORMS)[number]): OpForm['run'] =>
    (tensors) => ({ output: tf.tidy(() => neighborhoodAttention(tensors as unknown as NeighborhoodInputs, { ...options, form }).output) });
  const zeros = (shape: number[] = [1, 5, 1, 4]): tf.Tensor => tf.zeros(shape);
  const call =
    (change: () => Partial<NeighborhoodInputs>, given: Partial<NeighborhoodOptions> = {}) =>
    () =>
      tf.tidy(() => neighborhoodAttention({ query: zeros(), key: zeros(), value: zeros(), ...change() }, { window: 3, ...given }));
  return {
    card: decodes ? card : { ...card, forms: ['naive', 'parallel', 'gathered'] },
    name: `neighborhood-attention, ${name}`,
    inputs,
    lengths,
    degenerate,
    gradients: ['query', 'key', 'value', 'extraKey', 'extraValue'],
    naive: (arrays: Arrays64) =>
      naiveNeighborhoodAttention(arrays as unknown as Parameters<typeof naiveNeighborhoodAttention>[0], axes) as unknown as Arrays64,
    forms: {
      gathered: run('gathered'),
      parallel: run('parallel'),
      ...(decodes ? { decode: (tensors: OpTensors) => decode(tensors, window, dilation) } : {}),
    },
    hard: [
      { title: 'a single token', inputs: () => inputs(1, 5) },
      {
        title: 'logits of 1e4',
        // float32 keeps a logit of that size to 1e-3
        tolerance: 1e-3,
        inputs: () => mapArrays64(inputs(9, 3), { query: (value) => 5e3 * value }),
      },
    ],
    badInputs: [
      { title: 'a key of another grid', argument: 'key', call: call(() => ({ key: zeros([1, 4, 1, 4]) })) },
      { title: 'a query without a grid', argument: 'query', call: call(() => ({ query: zeros([1, 1, 4]) })) },
      { title: 'a window of no keys', argument: 'options.window', call: call(() => ({}), { window: 0 }) },
      { title: 'two windows for one axis', argument: 'options.window', call: call(() => ({}), { window: [3, 3] }) },
      { title: 'a stride beyond the window', argument: 'options.stride', call: call(() => ({}), { stride: 4 }) },
      { title: 'half a dilation', argument: 'options.dilation', call: call(() => ({}), { dilation: 0.5 }) },
      {
        title: 'lengths of a causal axis',
        argument: 'options.lengths',
        call: call(() => ({}), { causal: true, lengths: 'refused before it is read' as unknown as tf.Tensor }),
      },
      {
        title: 'a cache for another window',
        argument: 'state.windowKey',
        call: () =>
          tf.tidy(() => {
            const state = { windowKey: zeros([1, 3, 1, 4]), windowValue: zeros([1, 3, 1, 4]), position: zeros([1]) } as unknown as State;
            return { ...rollingNeighborhood({ query: zeros(), key: zeros(), value: zeros() }, state, { window: 3 }).state };
          }),
      },
      { title: 'extra keys without values', argument: 'extraValue', call: call(() => ({ extraKey: zeros([1, 2, 1, 4]) })) },
    ],
  };
}

opLaws(subject({ name: 'one axis', options: { window: 4 }, extra: 2, lengths: [1, 7, 65] }));
// queries and keys of a token that sees itself alone have no gradient, so a relative error would say nothing below three tokens
opLaws(subject({ name: 'one causal axis, dilated', options: { window: 3, dilation: 2, causal: true }, lengths: [3, 7, 65] }));
opLaws(
  subject({
    name: 'two axes, all settings',
    options: { window: [4, 3], dilation: [1, 2], stride: [2, 1], causal: [true, false] },
    rest: [5],
    lengths: [1, 7, 17],
  }),
);

for (const form of [...FORMS, 'decode'] as const) {
  goldenSuite({
    op: 'neighborhood-1d',
    name: `neighborhood-1d, ${form}`,
    folder: new URL('../../golden/neighborhood-attention/neighborhood-1d/', import.meta.url),
    ...(form === 'decode' ? { cases: ['hard'] } : {}),
    run: ({ inputs }, { config }) => {
      const { kernel_size: window, dilation, causal } = config as { kernel_size: number; dilation: number; causal: boolean };
      const tensors = { query: inputs['q']!, key: inputs['k']!, value: inputs['v']! };
      if (form === 'decode') return { o: decode(tensors, window, dilation).output };
      return { o: neighborhoodAttention(tensors, { window, dilation, causal, form }).output };
    },
  });
}
goldenSuite({
  op: 'neighborhood-2d',
  folder: new URL('../../golden/neighborhood-attention/neighborhood-2d/', import.meta.url),
  run: ({ inputs }, { config }) => {
    const { kx, ky, dx, dy, cx, cy } = config as Record<'kx' | 'ky' | 'dx' | 'dy', number> & Record<'cx' | 'cy', boolean>;
    const tensors = { query: inputs['q']!, key: inputs['k']!, value: inputs['v']! };
    return { o: neighborhoodAttention(tensors, { window: [kx, ky], dilation: [dx, dy], causal: [cx, cy] }).output };
  },
});

const variants: [string, NeighborhoodAttentionConfig][] = [
  ['causal', { dim: 8, heads: 2, window: 3 }],
  ['causal, dilated, grouped heads, rotary', { dim: 8, heads: 2, kvHeads: 1, window: 3, dilation: 2, rotary: { base: 100 }, bias: false }],
  ['noncausal, dilated', { dim: 8, heads: 2, window: 4, dilation: 2, pattern: 'noncausal-self' }],
  ['noncausal, strided', { dim: 8, heads: 2, window: 3, stride: 2, pattern: 'noncausal-self' }],
];

for (const [name, config] of variants) {
  const { dim, heads, kvHeads = heads, window, dilation = 1 } = config;
  const noncausal = config.pattern === 'noncausal-self';
  mixerLaws({
    card,
    name: `neighborhood-attention, ${name}`,
    build: () => new NeighborhoodAttention({ seed: 3, ...config }),
    ...(noncausal ? {} : { dims: { kvHeads, headDim: dim / heads, window, dilation } }),
    // a softmax does not change when all its keys move by the same vector
    ...(config.bias === false ? {} : { unusedParameters: ['key.bias'] }),
    ...(noncausal && dilation > 1 ? { leaveOut: { 4: 'a token reaches its own residue class alone; tested apart' } } : {}),
    badConfigs: [
      { build: () => new NeighborhoodAttention({ dim: 8, heads: 2, window: 0 }), argument: 'config.window' },
      { build: () => new NeighborhoodAttention({ dim: 8, heads: 2, window: 3, stride: 2 }), argument: 'config.stride' },
      { build: () => new NeighborhoodAttention({ dim: 6, heads: 2, window: 3, rotary: {} }), argument: 'config.rotary' },
    ],
  });
}
