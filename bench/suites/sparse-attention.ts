import * as tf from '@tensorflow/tfjs-core';
import { cachedAttention } from '@seqloom/attention';
import { softmaxAttention } from '@seqloom/core';
import {
  appendLandmarkTokens,
  appendMobaTokens,
  appendSparseTokens,
  cachedLandmarkAttention,
  cachedMobaAttention,
  cachedNativeSparseAttention,
  emptyLandmarkState,
  emptyMobaState,
  emptySparseState,
  landmarkAttention,
  mobaAttention,
  naiveLandmarkAttention,
  naiveMoba,
  naiveNativeSparseAttention,
  nativeSparseAttention,
} from '@seqloom/sparse-attention';
import type { Array64 } from '../../packages/testing/src/oracle/index.ts';
import type { Candidate, Case, Prepared } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { gainNote, seriesOf } from '../measure/gains.ts';
import { headOf, pickHead, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Suite } from '../measure/suite.ts';
import { FUSED_BACKEND, gradientCall, PLAIN_BACKEND, tensorsOf, tfCandidate, useBackend } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';

type Heads = { readonly query: tf.Tensor; readonly key: tf.Tensor; readonly value: tf.Tensor };
type State = Readonly<Record<string, tf.Tensor>> & { readonly key: tf.Tensor; readonly value: tf.Tensor; readonly position: tf.Tensor };

/** A mechanism with its settings. */
interface Method {
  readonly name: string;
  readonly groups: number;
  readonly forward: (heads: Heads) => tf.Tensor;
  readonly naive: (heads: { query: Array64; key: Array64; value: Array64 }) => Array64;
  readonly empty: (shape: { batch: number; heads: number; headDim: number }) => State;
  readonly append: (state: State, heads: Heads) => State;
  readonly decode: (heads: Heads, state: State) => { output: tf.Tensor; state: State };
  /** keys that a query multiplies itself with, once there are `length` */
  readonly reads: (length: number) => number;
}

interface Sizes {
  readonly heads: number;
  readonly dim: number;
}

const DENSE = 'dense';
const usual: Sizes = { heads: 8, dim: 64 };
const tiny: Sizes = { heads: 2, dim: 8 };

function moba(blockSize: number, topK: number, { heads }: Sizes): Method {
  const options = { blockSize, topK };
  return {
    name: `moba, ${topK} blocks of ${blockSize}`,
    groups: heads,
    forward: (given) => mobaAttention(given, options).output,
    naive: (given) => naiveMoba(given, options).output as Array64,
    empty: emptyMobaState,
    append: (state, given) => appendMobaTokens(state as never, given, options),
    decode: (given, state) => cachedMobaAttention(given, state as never, options),
    reads: (length) => Math.min(length, topK * blockSize) + length / blockSize / 2,
  };
}

function nsa(quick: boolean, { heads }: Sizes): Method {
  const options = quick
    ? { compressionLength: 8, compressionStride: 4, selectionBlock: 8, selected: 3, window: 8 }
    : { compressionLength: 32, compressionStride: 16, selectionBlock: 64, selected: 16, window: 512 };
  const { compressionStride, selected, selectionBlock, window } = options;
  return {
    name: `nsa, ${selected} blocks of ${selectionBlock}`,
    groups: heads / (quick ? 1 : 4),
    forward: (given) => nativeSparseAttention(given, options).output,
    naive: (given) => naiveNativeSparseAttention(given, { ...options, initialBlocks: 1, localBlocks: 2 }).output as Array64,
    empty: emptySparseState,
    append: (state, given) => appendSparseTokens(state as never, given, options),
    decode: (given, state) => cachedNativeSparseAttention(given, state as never, options),
    reads: (length) => length / compressionStride + Math.min(length, selected * selectionBlock) + Math.min(length, window),
  };
}

function landmark(blockLength: number, retrieved: number | null, { heads }: Sizes): Method {
  const options = { blockLength, retrieved };
  return {
    name: `landmark, ${retrieved ?? 'all'} blocks of ${blockLength}`,
    groups: heads,
    forward: (given) => landmarkAttention(given, options).output,
    naive: (given) => naiveLandmarkAttention(given, { ...options, positions: 'absolute', rotaryBase: null }).output as Array64,
    empty: emptyLandmarkState,
    append: (state, given) => appendLandmarkTokens(state as never, given, options),
    decode: (given, state) => cachedLandmarkAttention(given, state as never, options),
    reads: (length) => (retrieved === null ? length : Math.min(length, (retrieved + 1) * blockLength)) + length / blockLength / 2,
  };
}

function inputsOf(length: number, groups: number, { heads, dim }: Sizes): Record<keyof Heads, HostArray> {
  return {
    query: uniform([1, length, heads, dim], 1, -2, 2),
    key: uniform([1, length, groups, dim], 2, -2, 2),
    value: uniform([1, length, groups, dim], 3),
  };
}

// the oracle of one head takes seconds up to here
const ORACLE_LENGTH = 2048;
// composed forms take seconds beyond this length
const COMPOSED_LENGTH = 1024;

/** Our mechanism, composed too where that ends soon, and dense attention, whose outputs are others. */
function candidatesOf(ours: () => Record<string, tf.Tensor>, dense: () => Record<string, tf.Tensor>, length: number): Candidate[] {
  return [
    tfCandidate(OURS, FUSED_BACKEND, ours),
    ...(length <= COMPOSED_LENGTH ? [tfCandidate(COMPOSED, PLAIN_BACKEND, ours)] : []),
    tfCandidate(DENSE, FUSED_BACKEND, dense, 'SoftmaxAttention, all keys'),
  ];
}

const tooLong = (length: number) => (length <= COMPOSED_LENGTH ? [] : [{ name: COMPOSED, reason: 'takes seconds at this length' }]);

/** The last head (or the heads of the last group) against the specification; beyond its reach the last token against the decode form. */
async function outputCheck(method: Method, inputs: Record<keyof Heads, HostArray>, length: number, sizes: Sizes) {
  const { groups } = method;
  if (length <= ORACLE_LENGTH && groups === sizes.heads) {
    const last = sizes.heads - 1;
    const wanted = method.naive({ query: headOf(inputs.query, last), key: headOf(inputs.key, last), value: headOf(inputs.value, last) });
    return equals('output', wanted.data, { part: (values) => pickHead(values, inputs.query.shape, last) });
  }
  await useBackend(FUSED_BACKEND);
  const tensors = tensorsOf(inputs);
  const token = tf.tidy(() => {
    const state = fill(method, tensors, length - 1);
    return method.decode(cutAt(tensors, length - 1, 1), state).output;
  });
  const wanted = await token.data();
  tf.dispose([tensors, token]);
  const width = sizes.heads * sizes.dim;
  return equals('output', wanted, { part: (values) => Array.from({ length: width }, (_, place) => values[(length - 1) * width + place]!) });
}

function cutAt({ query, key, value }: Heads, from: number, count: number): Heads {
  const cut = (x: tf.Tensor): tf.Tensor => tf.slice(x, [0, from, 0, 0], [1, count, -1, -1]);
  return { query: cut(query), key: cut(key), value: cut(value) };
}

/** The state after the first `count` tokens. */
function fill(method: Method, tensors: Heads, count: number): State {
  const [, , groups, dim] = tensors.key.shape as [number, number, number, number];
  const work = () => method.append(method.empty({ batch: 1, heads: groups, headDim: dim }), cutAt(tensors, 0, count));
  return tf.tidy(() => work() as unknown as tf.NamedTensorMap) as unknown as State;
}

async function forward(method: Method, length: number, sizes: Sizes): Promise<Prepared> {
  const inputs = inputsOf(length, method.groups, sizes);
  const check = await outputCheck(method, inputs, length, sizes);
  const tensors = tensorsOf(inputs);
  return {
    candidates: candidatesOf(
      () => ({ output: method.forward(tensors) }),
      () => ({ 'dense output': softmaxAttention(tensors, { causal: true }).output }),
      length,
    ),
    checks: [check],
    skipped: tooLong(length),
    dispose: () => tf.dispose(tensors),
  };
}

function backward(method: Method, length: number, sizes: Sizes): Prepared {
  const tensors = tensorsOf(inputsOf(length, method.groups, sizes));
  const cotangent = tensorsOf({ output: uniform([1, length, sizes.heads, sizes.dim], 5) });
  const ours = gradientCall((heads) => ({ output: method.forward(heads as unknown as Heads) }), { ...tensors }, cotangent);
  const dense = gradientCall(
    (heads) => ({ output: softmaxAttention(heads as unknown as Heads, { causal: true }).output }),
    { ...tensors },
    cotangent,
  );
  return {
    candidates: candidatesOf(
      ours,
      () => Object.fromEntries(Object.entries(dense()).map(([name, gradient]) => [`dense ${name}`, gradient])),
      length,
    ),
    // gradients are held to central differences by the laws of each mechanism
    checks: [],
    skipped: tooLong(length),
    dispose: () => tf.dispose([tensors, cotangent]),
  };
}

async function oneToken(method: Method, context: number, sizes: Sizes): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const tensors = tensorsOf(inputsOf(context + 1, method.groups, sizes));
  const state = fill(method, tensors, context);
  const token = tf.tidy(() => ({ ...cutAt(tensors, context, 1) }));
  tf.dispose(tensors);
  const flat = ({ output, state: after }: { output: tf.Tensor; state: object }, prefix = '') => ({
    [`${prefix}output`]: output,
    ...Object.fromEntries(Object.entries(after).map(([name, tensor]) => [`${prefix}state ${name}`, tensor as tf.Tensor])),
  });
  const dense = (): Record<string, tf.Tensor> => {
    const { key, value, position } = state;
    const { output, cache } = cachedAttention(token, { key, value, position });
    return flat({ output, state: cache }, 'dense ');
  };
  return {
    candidates: candidatesOf(() => flat(method.decode(token, state)), dense, context),
    checks: [],
    skipped: tooLong(context),
    dispose: () => tf.dispose([token, { ...state }]),
  };
}

const pairsRead = (method: Method, length: number): number => {
  let sum = 0;
  for (let t = 1; t <= length; t++) sum += Math.min(t, method.reads(t));
  return sum;
};

function cases(quick: boolean): Case[] {
  const sizes = quick ? tiny : usual;
  const methods = quick
    ? [moba(8, 2, sizes), nsa(true, sizes), landmark(8, 2, sizes)]
    : [moba(512, 3, sizes), nsa(false, sizes), landmark(64, 4, sizes)];
  const flops = (pairs: number): number => 4 * sizes.heads * sizes.dim * pairs;
  const lengths = quick ? [16, 40] : [1024, 2048, 4096, 8192];
  const overLength = methods.flatMap((method) =>
    lengths.flatMap((length): Case[] => [
      {
        name: `${method.name}, forward, T = ${length}`,
        series: `${method.name}, forward`,
        x: length,
        work: { flops: flops(pairsRead(method, length)), tokens: length },
        prepare: () => forward(method, length, sizes),
      },
      ...(length <= 4096
        ? [
            {
              name: `${method.name}, forward + backward, T = ${length}`,
              series: `${method.name}, forward + backward`,
              x: length,
              work: { tokens: length },
              prepare: () => backward(method, length, sizes),
            },
          ]
        : []),
    ]),
  );
  const length = quick ? 40 : 4096;
  const block = quick ? 4 : 128;
  const overSparsity = (quick ? [2, 10] : [2, 4, 8, 16, 32]).map((topK): Case => {
    const method = moba(block, topK, sizes);
    return {
      name: `moba of blocks of ${block}, T = ${length}, ${topK} of ${length / block} blocks`,
      series: `moba of blocks of ${block}, T = ${length}, over blocks read`,
      x: topK,
      work: { flops: flops(pairsRead(method, length)), tokens: length },
      prepare: () => forward(method, length, sizes),
    };
  });
  const decoding = methods.flatMap((method) =>
    (quick ? [16, 40] : [1024, 4096, 16_384]).map((context): Case => ({
      name: `${method.name}, one token after ${context}`,
      series: `${method.name}, one token`,
      x: context,
      work: { flops: flops(method.reads(context)), tokens: 1 },
      prepare: () => oneToken(method, context, sizes),
    })),
  );
  return [...overLength, ...overSparsity, ...decoding];
}

/** Block-sparse attention beside attention to all keys. */
export const sparseAttention: Suite = {
  name: 'sparse-attention',
  title: 'Sparse against dense attention',
  about:
    'Causal, B = 1, H = 8, D = 64; two key heads for NSA (32 / 16 / 64 tokens, window 512), eight otherwise. dense: SoftmaxAttention over all keys, which computes something else.',
  peers: [],
  cases: ({ quick }) => cases(quick),
  notes: (results) => seriesOf(results).map((series) => gainNote(results, series, DENSE, 'dense attention')),
};
