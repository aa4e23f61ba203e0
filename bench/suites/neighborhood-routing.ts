import * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention } from '@seqloom/core';
import {
  memberCacheShapes,
  naiveNeighborhoodAttention,
  naiveRecentRouting,
  naiveRoutingAttention,
  neighborhoodAttention,
  recentRouting,
  routingAttention,
} from '@seqloom/sparse-attention';
import type { Array64 } from '../../packages/testing/src/oracle/index.ts';
import type { Case, Prepared } from '../measure/candidate.ts';
import { OURS } from '../measure/candidate.ts';
import { gainNote, seriesOf } from '../measure/gains.ts';
import { headOf, pickHead, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Suite } from '../measure/suite.ts';
import { FUSED_BACKEND, gradientCall, tensorsOf, tfCandidate } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';

type Heads = { readonly query: tf.Tensor; readonly key: tf.Tensor; readonly value: tf.Tensor };
type Heads64 = { readonly query: Array64; readonly key: Array64; readonly value: Array64 };

/** A mechanism at one length. */
interface Method {
  readonly name: string;
  readonly causal: boolean;
  readonly forward: (heads: Heads) => tf.Tensor;
  /** the same under a mask over all pairs */
  readonly masked?: (heads: Heads) => tf.Tensor;
  readonly naive: (heads: Heads64) => Array64;
  /** keys that a query reads */
  readonly reads: number;
}

interface Sizes {
  readonly heads: number;
  readonly dim: number;
}

const [MASKED, DENSE] = ['masked dense', 'dense'];
// oracles and masked forms take seconds beyond
const ORACLE_LENGTH = 1024;

function neighborhood(name: string, grid: readonly number[], options: { readonly window: number; readonly causal?: boolean }): Method {
  const { window, causal = false } = options;
  const axes = grid.map(() => ({ window, dilation: 1, stride: 1, causal }));
  const onGrid = (x: { readonly shape: readonly number[] }): number[] => [1, ...grid, ...x.shape.slice(2)];
  const run = ({ query, key, value }: Heads, form: 'gathered' | 'parallel'): tf.Tensor => {
    const [q, k, v] = [query, key, value].map((x) => tf.reshape(x, onGrid(x))) as [tf.Tensor, tf.Tensor, tf.Tensor];
    return tf.reshape(neighborhoodAttention({ query: q, key: k, value: v }, { ...options, form }).output, query.shape);
  };
  return {
    name,
    causal,
    forward: (heads) => run(heads, 'gathered'),
    masked: (heads) => run(heads, 'parallel'),
    naive: ({ query, key, value }) => {
      const placed = (x: Array64): Array64 => ({ ...x, shape: onGrid(x) });
      return naiveNeighborhoodAttention({ query: placed(query), key: placed(key), value: placed(value) }, axes).output;
    },
    reads: window ** grid.length,
  };
}

/** Clusters and members near the root of the length. */
function routing(recent: boolean, length: number, { heads, dim }: Sizes): Method {
  const count = 2 ** Math.round(Math.log2(length) / 2);
  const centroids = uniform([heads, count, dim], 7);
  const last = { shape: [1, count, dim], data: Float64Array.from(centroids.data.slice((heads - 1) * count * dim)) };
  const learned = (): tf.Tensor => tf.tensor(centroids.data, [heads, count, dim]);
  const published = (given: Heads, form: 'gathered' | 'parallel'): tf.Tensor =>
    routingAttention({ ...given, centroids: learned() }, { window: count, form }).output;
  if (!recent) {
    return {
      name: 'routing, published',
      causal: false,
      forward: (given) => published(given, 'gathered'),
      masked: (given) => published(given, 'parallel'),
      naive: (given) => naiveRoutingAttention({ ...given, centroids: last }, { window: count }).output,
      reads: count,
    };
  }
  const shapes = Object.entries(memberCacheShapes(1, { clusters: count, window: count, heads, headDim: dim }));
  return {
    name: 'routing, recent, shared queries and keys',
    causal: true,
    forward: ({ query, value }) => {
      const empty = shapes.map(([name, shape]) => [name, tf.zeros(shape as number[])] as const);
      const state = { ...Object.fromEntries(empty), position: tf.zeros([1]) };
      return recentRouting({ query, value, centroids: learned() }, state, { window: count }).output;
    },
    naive: ({ query, value }) =>
      naiveRecentRouting({ query, key: query, value, centroids: last }, { window: count, sharedQueryKey: true }).output,
    reads: count,
  };
}

function inputsOf(length: number, { heads, dim }: Sizes): Record<keyof Heads, HostArray> {
  const shape = [1, length, heads, dim];
  return { query: uniform(shape, 1, -2, 2), key: uniform(shape, 2, -2, 2), value: uniform(shape, 3) };
}

function forward(method: Method, length: number, sizes: Sizes): Prepared {
  const inputs = inputsOf(length, sizes);
  const tensors = tensorsOf(inputs);
  const last = sizes.heads - 1;
  const head = (): Heads64 => ({ query: headOf(inputs.query, last), key: headOf(inputs.key, last), value: headOf(inputs.value, last) });
  const small = length <= ORACLE_LENGTH;
  return {
    candidates: [
      tfCandidate(OURS, FUSED_BACKEND, () => ({ output: method.forward(tensors) })),
      ...(method.masked && small ? [tfCandidate(MASKED, FUSED_BACKEND, () => ({ output: method.masked!(tensors) }))] : []),
      tfCandidate(DENSE, FUSED_BACKEND, () => ({ 'dense output': softmaxAttention(tensors, { causal: method.causal }).output })),
    ],
    checks: small ? [equals('output', method.naive(head()).data, { part: (values) => pickHead(values, inputs.query.shape, last) })] : [],
    skipped: method.masked && !small ? [{ name: MASKED, reason: 'takes seconds at this length' }] : [],
    dispose: () => tf.dispose(tensors),
  };
}

function backward(method: Method, length: number, sizes: Sizes): Prepared {
  const tensors = tensorsOf(inputsOf(length, sizes));
  const cotangent = tensorsOf({ output: uniform([1, length, sizes.heads, sizes.dim], 5) });
  const call = (op: (heads: Heads) => tf.Tensor) =>
    gradientCall((heads) => ({ output: op(heads as unknown as Heads) }), { query: tensors.query, value: tensors.value }, cotangent);
  const ours = call((heads) => method.forward({ ...heads, key: tensors.key }));
  const dense = call((heads) => softmaxAttention({ ...heads, key: tensors.key }, { causal: method.causal }).output);
  return {
    candidates: [
      tfCandidate(OURS, FUSED_BACKEND, ours),
      tfCandidate(DENSE, FUSED_BACKEND, () => Object.fromEntries(Object.entries(dense()).map(([name, x]) => [`dense ${name}`, x]))),
    ],
    // gradients are held to central differences by the laws of each mechanism
    checks: [],
    dispose: () => tf.dispose([tensors, cotangent]),
  };
}

function cases(quick: boolean): Case[] {
  const sizes: Sizes = quick ? { heads: 2, dim: 8 } : { heads: 4, dim: 64 };
  const window = quick ? 8 : 64;
  return (quick ? [16, 64] : [1024, 4096, 16_384]).flatMap((length) => {
    const side = Math.sqrt(length);
    const methods = [
      neighborhood(`neighborhood of ${window}, causal`, [length], { window, causal: true }),
      ...(quick ? [] : [neighborhood('neighborhood of 7 x 7', [side, side], { window: 7 })]),
      routing(false, length, sizes),
      routing(true, length, sizes),
    ];
    return methods.flatMap((method): Case[] => {
      const flops = 4 * sizes.heads * sizes.dim * length * method.reads;
      const one = (series: string, prepare: () => Prepared, work: Case['work']): Case => ({
        ...{ name: `${series}, T = ${length}`, series, x: length, work, prepare },
      });
      return [
        one(`${method.name}, forward`, () => forward(method, length, sizes), { flops, tokens: length }),
        ...(length <= 4096 ? [one(`${method.name}, forward + backward`, () => backward(method, length, sizes), { tokens: length })] : []),
      ];
    });
  });
}

/** Neighborhoods and routing beside attention to all keys. */
export const neighborhoodRouting: Suite = {
  name: 'neighborhood-routing',
  title: 'Neighborhood and routing attention against dense attention',
  about:
    'B = 1, H = 4, D = 64; clusters and members of routing are the root of T. masked dense: the same result under a mask over all pairs. dense: SoftmaxAttention over all keys, which computes something else.',
  peers: [],
  cases: ({ quick }) => cases(quick),
  notes: (results) => seriesOf(results).map((series) => gainNote(results, series, DENSE, 'dense attention')),
};
