import * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention as softmaxAttentionOp } from '@seqloom/core';
import type { SoftmaxAttentionInputs } from '@seqloom/core';
import { naiveSoftmaxAttention, weightedSum64 } from '../../packages/testing/src/oracle/index.ts';
import type { Array64 } from '../../packages/testing/src/oracle/index.ts';
import type { Candidate, Case, Outputs, Prepared, Work } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { bytesOf, directionCheck, doubles, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Bench, Suite } from '../measure/suite.ts';
import { bothOverForward, floor, rowOf } from '../measure/suite.ts';
import { forwardAlone, gradientCall, ourCandidates, PLAIN_BACKEND, tensorsOf, tfCandidate } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';
import type { SkippedPeer } from '../peers/load.ts';
import type { AttentionArrays } from '../peers/onnx-calls.ts';
import { onnxGroupQueryAttention, onnxMultiHeadAttention } from '../peers/onnx-calls.ts';

interface Shape {
  readonly length: number;
  readonly heads: number;
  /** key heads */
  readonly groups: number;
  readonly dim: number;
  readonly window: number | null;
}

const H = 8;
const plain = (length: number): Shape => ({ length, heads: H, groups: H, dim: 64, window: null });
const title = ({ groups, heads, window }: Shape): string =>
  `causal${groups === heads ? '' : `, ${groups} key heads`}${window === null ? '' : `, window ${window}`}`;
const nameOf = (shape: Shape, direction: string): string => `${title(shape)}, ${direction}, T = ${shape.length}`;
const FORWARD = 'forward';
const BOTH = 'forward + backward';

function inputsOf({ length, heads, groups, dim }: Shape): { query: HostArray; key: HostArray; value: HostArray } {
  return {
    query: uniform([1, length, heads, dim], 1, -2, 2),
    key: uniform([1, length, groups, dim], 2, -2, 2),
    value: uniform([1, length, groups, dim], 3),
  };
}

/** Query-key pairs that are seen. */
function pairs({ length, window }: Shape): number {
  const width = Math.min(window ?? length, length);
  return (width * (width + 1)) / 2 + (length - width) * width;
}

const tooLong = { name: COMPOSED, reason: 'takes minutes at this length' };

// numbers above this many bytes are not made at once by the plain form
const SCORES_AT_ONCE = 2 ** 26;

/** What a tfjs program writes: product, mask, softmax, product; head by head once all scores together are too large for the heap. */
export function matmulSoftmaxMatmul(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor): tf.Tensor {
  const [, length, heads, dim] = query.shape as [number, number, number, number];
  const byHead = (x: tf.Tensor): tf.Tensor3D => tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [heads, length, dim]);
  const [q, k, v] = [byHead(tf.mul(query, dim ** -0.5)), byHead(key), byHead(value)];
  const mask = tf.tidy(() => {
    const index = tf.range(0, length, 1, 'float32');
    const later = tf.greater(tf.reshape(index, [1, length]), tf.reshape(index, [length, 1]));
    return tf.mul(tf.cast(later, 'float32'), -1e9);
  });
  const attend = (first: number, count: number): tf.Tensor =>
    tf.tidy(() => {
      const part = (x: tf.Tensor3D): tf.Tensor3D => tf.slice(x, [first, 0, 0], [count, length, dim]);
      const scores = tf.add(tf.matMul(part(q), part(k), false, true), mask);
      return tf.matMul(tf.softmax(scores), part(v));
    });
  const atOnce = Math.max(1, Math.min(heads, Math.floor(SCORES_AT_ONCE / (4 * length * length))));
  const parts: tf.Tensor[] = [];
  for (let first = 0; first < heads; first += atOnce) parts.push(attend(first, Math.min(atOnce, heads - first)));
  const joined = parts.length === 1 ? parts[0]! : tf.concat(parts, 0);
  return tf.reshape(tf.transpose(joined, [1, 0, 2]), [1, length, heads, dim]);
}

/** Checks of the last rows, which see the most, by the oracle; its positions default to the end of the keys. */
export function lastRowChecks(inputs: AttentionArrays, window: number | null = null): ((outputs: Outputs) => string | null)[] {
  const [, length, heads, dim] = inputs.query.shape as [number, number, number, number];
  const rows = Math.min(length, 16);
  const tail = { shape: [1, rows, heads, dim], data: inputs.query.data.slice((length - rows) * heads * dim) };
  const given = { query: doubles(tail), key: doubles(inputs.key), value: doubles(inputs.value) };
  const wanted = naiveSoftmaxAttention(given, { causal: true, window });
  const part = (per: number) => (values: ArrayLike<number>) => Array.prototype.slice.call(values, (length - rows) * per) as number[];
  return [
    equals('output', wanted.output.data, { part: part(heads * dim) }),
    equals('logSumExp', wanted.logSumExp.data, { part: part(heads) }),
  ];
}

async function forward(shape: Shape, { peers }: Bench): Promise<Prepared> {
  const { length, heads, groups, window } = shape;
  const inputs = inputsOf(shape);
  const tensors = tensorsOf(inputs);
  const options = { causal: true, window };
  const [ours, composed] = ourCandidates(() => softmaxAttentionOp(tensors, options));
  const candidates: Candidate[] = [ours];
  const skipped: SkippedPeer[] = [];
  if (length <= 2048) candidates.push(composed);
  else skipped.push(tooLong);
  const same = groups === heads && window === null;
  const quadratic = `would hold ${((4 * heads * length * length) / 2 ** 30).toFixed(1)} GiB of scores`;
  if (same && length <= 4096) {
    const call = () => ({ output: matmulSoftmaxMatmul(tensors.query, tensors.key, tensors.value) });
    candidates.push(tfCandidate('tfjs-wasm', PLAIN_BACKEND, call, 'matMul, softmax, matMul'));
  } else if (same) skipped.push({ name: 'tfjs-wasm', reason: quadratic });
  if (peers.jax && same && length <= 2048) {
    const jax = peers.jax.candidate(
      [inputs.query, inputs.key, inputs.value],
      ({ nn }, q, k, v) => nn.dotProductAttention(q!, k!, v!, { isCausal: true }),
      (values) => ({ output: values }),
    );
    candidates.push(jax);
  } else if (peers.jax && same) skipped.push({ name: 'jax-js', reason: quadratic });
  if (peers.onnxRuntime) {
    if (length <= 4096) {
      if (same) candidates.push({ ...(await peers.onnxRuntime.candidate(onnxMultiHeadAttention(inputs))), name: 'onnxruntime MHA' });
      candidates.push({ ...(await peers.onnxRuntime.candidate(onnxGroupQueryAttention(inputs, { window }))), name: 'onnxruntime GQA' });
    } else skipped.push({ name: 'onnxruntime', reason: same ? quadratic : 'measured up to T = 4096' });
  }
  return {
    candidates,
    checks: lastRowChecks(inputs, window),
    skipped,
    dispose: () => tf.dispose(tensors),
  };
}

function both(shape: Shape, composedToo: boolean): Prepared {
  const { length, heads, dim, window } = shape;
  const inputs = inputsOf(shape);
  const options = { causal: true, window };
  const cotangent = uniform(inputs.query.shape, 6);
  // parity is that of a loss on the last rows, which the oracle reaches in time; their gradients go to all keys
  const rows = Math.min(length, 32);
  const from = (length - rows) * heads * dim;
  const tail = { shape: cotangent.shape, data: Float32Array.from(cotangent.data, (value, place) => (place < from ? 0 : value)) };
  const tensors = tensorsOf(inputs);
  const weights = tensorsOf({ output: cotangent });
  const tailWeights = tensorsOf({ output: tail });
  const op = (given: Record<string, tf.Tensor>) => softmaxAttentionOp(given as SoftmaxAttentionInputs, options);
  const checked = ourCandidates(gradientCall(op, tensors, tailWeights));
  const timed = ourCandidates(gradientCall(op, tensors, weights));
  const lastOf = ({ data }: { readonly data: Float64Array }): Array64 => ({ shape: [1, rows, heads, dim], data: data.subarray(from) });
  const loss = ({ query, key, value }: Record<string, Array64>): number => {
    const { output } = naiveSoftmaxAttention({ query: lastOf(query!), key: key!, value: value! }, options);
    return weightedSum64({ output }, { output: lastOf(doubles(cotangent)) });
  };
  return {
    candidates: [
      ...timed.map((candidate, index) => ({ ...candidate, outputs: () => checked[index]!.outputs() })).slice(0, composedToo ? 2 : 1),
      forwardAlone(() => op(tensors), workOf(shape, FORWARD)),
    ],
    checks: [directionCheck(inputs, loss)],
    agreement: 1e-3,
    skipped: composedToo ? [] : [tooLong],
    dispose: () => tf.dispose([tensors, weights, tailWeights]),
  };
}

/** Forward takes two products per pair, backward five more. */
function workOf(shape: Shape, direction: typeof FORWARD | typeof BOTH): Work {
  const { length, heads, groups, dim } = shape;
  const arrays = bytesOf([{ shape: [length, 2 * heads, dim] }, { shape: [length, 2 * groups, dim] }]);
  const [products, passes] = direction === FORWARD ? [4, 1] : [14, 3];
  return { tokens: length, flops: products * pairs(shape) * heads * dim, bytes: passes * arrays };
}

function caseOf(shape: Shape, direction: typeof FORWARD | typeof BOTH, bench: Bench): Case {
  const { length } = shape;
  return {
    name: nameOf(shape, direction),
    series: `${title(shape)}, ${direction}`,
    x: length,
    work: workOf(shape, direction),
    prepare: () => (direction === FORWARD ? forward(shape, bench) : both(shape, length <= 1024)),
  };
}

/** Softmax attention. */
export const softmaxAttention: Suite = {
  name: 'softmax-attention',
  title: 'Softmax attention',
  about:
    'The `SoftmaxAttention` contract, B = 1, H = 8, D = 64, causal. `composed` is our tiled form on plain tfjs ops, `tfjs-wasm` the usual product, softmax, product. GFLOP/s count visible pairs only.',
  peers: ['jax-js', 'onnxruntime'],
  cases(bench) {
    if (bench.quick) {
      const tiny = (length: number, groups = 2, window: number | null = null): Shape => ({ length, heads: 2, groups, dim: 16, window });
      return [
        caseOf(tiny(33), FORWARD, bench),
        caseOf(tiny(70), FORWARD, bench),
        caseOf(tiny(40, 1), FORWARD, bench),
        caseOf(tiny(40, 2, 8), FORWARD, bench),
        caseOf(tiny(33), BOTH, bench),
      ];
    }
    return [
      ...[256, 1024, 2048, 4096, 8192].map((length) => caseOf(plain(length), FORWARD, bench)),
      ...[1024, 4096].map((length) => caseOf({ ...plain(length), groups: 2 }, FORWARD, bench)),
      ...[1024, 4096, 16_384].map((length) => caseOf({ ...plain(length), window: 256 }, FORWARD, bench)),
      ...[256, 1024, 4096].map((length) => caseOf(plain(length), BOTH, bench)),
    ];
  },
  floors(results) {
    const name = nameOf(plain(4096), FORWARD);
    const native = ['onnxruntime MHA', 'onnxruntime GQA'].flatMap((candidate) => rowOf(results, name, candidate)?.ratio ?? []);
    const best = native.length > 0 ? 1 / Math.min(...native) : undefined;
    const both = bothOverForward(results, nameOf(plain(4096), BOTH));
    return [
      floor('causal, T = 4096, against matMul, softmax, matMul on tfjs-wasm', 'at least', 10, rowOf(results, name, 'tfjs-wasm')?.ratio),
      floor("causal, T = 4096, time over that of onnxruntime's faster operator", 'at most', 2, best),
      floor('causal, T = 4096, forward + backward over forward', 'at most', 4, both),
    ];
  },
  notes(results) {
    const heaps = [1024, 4096, 8192].flatMap((length) => {
      const bytes = rowOf(results, nameOf(plain(length), FORWARD), OURS)?.peakHeapBytes;
      return bytes ? [`T = ${length}: ${(bytes / length).toFixed(0)}`] : [];
    });
    return heaps.length > 1 ? [`Peak heap bytes per token of our forward (constant: no term quadratic in T): ${heaps.join(', ')}`] : [];
  },
};
