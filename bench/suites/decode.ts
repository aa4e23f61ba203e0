import * as tf from '@tensorflow/tfjs-core';
import { disposeState, linearAttentionUpdate, selectiveScan, softmaxAttention } from '@seqloom/core';
import type { LinearAttentionInputs, SelectiveScanInputs, State } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import { presets } from '../../packages/cli/src/presets.ts';
import { naiveLinearAttention, naiveSelectiveScan, naiveSoftmaxAttention } from '../../packages/testing/src/oracle/index.ts';
import type { Candidate, Case, Prepared } from '../measure/candidate.ts';
import { COMPOSED, OURS } from '../measure/candidate.ts';
import { doubles, uniform } from '../measure/inputs.ts';
import { equals } from '../measure/parity.ts';
import type { Bench, CaseResult, Suite } from '../measure/suite.ts';
import { floor, rowOf } from '../measure/suite.ts';
import { FUSED_BACKEND, ourCandidates, tensorsOf, useBackend } from '../measure/tfjs.ts';
import type { HostArray } from '../measure/tfjs.ts';
import { onnxGroupQueryAttention, onnxLinearAttention } from '../peers/onnx-calls.ts';
import { linearAttentionInputs } from './linear-attention.ts';

interface Sizes {
  readonly heads: number;
  readonly dim: number;
  readonly channels: number;
  readonly states: number;
}

const usual: Sizes = { heads: 8, dim: 64, channels: 512, states: 16 };
const tiny: Sizes = { heads: 2, dim: 16, channels: 8, states: 4 };
const STATE_BYTES = 'state bytes';
const LINEAR = 'linear attention (gated_delta, decay per channel)';
const SSM = 'selective scan';
const SOFTMAX = 'softmax attention';
const MODEL = 'quickstart model';
const nameOf = (series: string, context: number): string => `${series}, after ${context} tokens`;
const PIECE = 4096;

/** Feeds a context, a multiple of the piece's length, through a step that turns a state into the next one. */
async function feed(context: number, step: (state: tf.Tensor | undefined) => tf.Tensor): Promise<HostArray> {
  await useBackend(FUSED_BACKEND);
  let state: tf.Tensor | undefined;
  for (let done = 0; done < context; done += PIECE) {
    const next = tf.tidy(() => step(state));
    state?.dispose();
    state = next;
  }
  const host = { shape: [...state!.shape], data: Float32Array.from(await state!.data()) };
  state!.dispose();
  return host;
}

const facts = (bytes: number, ...names: string[]) => Object.fromEntries(names.map((name) => [name, { [STATE_BYTES]: bytes }]));

async function linear(context: number, { heads, dim }: Sizes, { peers }: Bench): Promise<Prepared> {
  const shape = { rule: 'gated_delta', decay: 'channel', heads, dim } as const;
  const options = { updateRule: shape.rule };
  // one piece of inputs, fed again and again
  const piece = linearAttentionInputs({ ...shape, length: Math.min(PIECE, context) });
  const state = await feed(context, (before) => {
    const inputs = tensorsOf(piece);
    return linearAttentionUpdate({ ...(inputs as unknown as LinearAttentionInputs), state: before }, options).state;
  });
  const inputs = { ...linearAttentionInputs({ ...shape, length: 1 }), state };
  const in64 = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, doubles(array)]));
  const wanted = naiveLinearAttention(in64 as unknown as Parameters<typeof naiveLinearAttention>[0], options);
  const tensors = tensorsOf(inputs as Record<string, HostArray>);
  const candidates: Candidate[] = [...ourCandidates(() => linearAttentionUpdate(tensors as unknown as LinearAttentionInputs, options))];
  const native = await peers.onnxRuntime?.candidate(onnxLinearAttention(inputs, shape.rule, state));
  if (native) candidates.push(native);
  return {
    candidates,
    checks: [equals('output', wanted.output.data), equals('state', wanted.state.data)],
    facts: facts(4 * state.data.length, OURS, COMPOSED, 'onnxruntime'),
    dispose: () => tf.dispose(tensors),
  };
}

async function ssm(context: number, { channels, states }: Sizes): Promise<Prepared> {
  const inputsOf = (length: number): Record<string, HostArray> => ({
    input: uniform([1, length, channels], 1),
    delta: uniform([1, length, channels], 2, 0.01, 0.2),
    transition: uniform([channels, states], 3, -4, -0.1),
    inputMatrix: uniform([1, length, states], 4),
    outputMatrix: uniform([1, length, states], 5),
    skip: uniform([channels], 6),
  });
  const piece = inputsOf(Math.min(PIECE, context));
  const state = await feed(
    context,
    (before) => selectiveScan({ ...(tensorsOf(piece) as unknown as SelectiveScanInputs), state: before }).state,
  );
  const inputs = { ...inputsOf(1), state };
  const in64 = Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, doubles(array)]));
  const wanted = naiveSelectiveScan(in64 as unknown as Parameters<typeof naiveSelectiveScan>[0]);
  const tensors = tensorsOf(inputs);
  return {
    candidates: ourCandidates(() => selectiveScan(tensors as unknown as SelectiveScanInputs)),
    checks: [equals('output', wanted.output.data), equals('state', wanted.state.data)],
    facts: facts(4 * state.data.length, OURS, COMPOSED),
    dispose: () => tf.dispose(tensors),
  };
}

async function softmax(context: number, { heads, dim }: Sizes, { peers }: Bench): Promise<Prepared> {
  const query = uniform([1, 1, heads, dim], 1, -2, 2);
  // the cache already holds the new token
  const [key, value] = [uniform([1, context, heads, dim], 2, -2, 2), uniform([1, context, heads, dim], 3)];
  const tensors = tensorsOf({ query, key, value });
  const wanted = naiveSoftmaxAttention({ query: doubles(query), key: doubles(key), value: doubles(value) }, { causal: true });
  const [ours, composed] = ourCandidates(() => softmaxAttention(tensors, { causal: true }));
  const candidates: Candidate[] = context <= 16_384 ? [ours, composed] : [ours];
  if (peers.onnxRuntime) {
    const last = ({ data }: HostArray): HostArray => ({ shape: query.shape, data: data.slice((context - 1) * heads * dim) });
    const cache = [headsFirst(key), headsFirst(value)] as const;
    const native = await peers.onnxRuntime.candidate(onnxGroupQueryAttention({ query, key: last(key), value: last(value) }, { cache }));
    candidates.push({ ...native, implementation: 'GroupQueryAttention, which copies its cache' });
  }
  return {
    candidates,
    checks: [equals('output', wanted.output.data)],
    skipped: candidates.includes(composed) ? [] : [{ name: COMPOSED, reason: 'takes half a minute per token at this length' }],
    facts: facts(4 * (key.data.length + value.data.length), OURS, COMPOSED, 'onnxruntime'),
    dispose: () => tf.dispose(tensors),
  };
}

/** All but the last token of [1, T, H, D], as [1, H, T - 1, D]. */
function headsFirst({ shape, data }: HostArray): HostArray {
  const [, length, heads, dim] = shape as [number, number, number, number];
  const moved = new Float32Array((length - 1) * heads * dim);
  for (let t = 0; t < length - 1; t++) {
    for (let h = 0; h < heads; h++) {
      const from = (t * heads + h) * dim;
      moved.set(data.subarray(from, from + dim), (h * (length - 1) + t) * dim);
    }
  }
  return { shape: [1, heads, length - 1, dim], data: moved };
}

async function wholeModel(context: number): Promise<Prepared> {
  await useBackend(FUSED_BACKEND);
  const model = new HybridModel(presets.quickstart);
  const bytes = Int32Array.from(uniform([1, PIECE], 1, 0, 256).data);
  let state: State | undefined;
  for (let done = 0; done < context;) {
    const length = Math.min(1024, context - done);
    const before = state;
    const ids = tf.tensor2d(bytes.subarray(0, length), [1, length], 'int32');
    const next = model.next(ids, before ? { state: before } : {});
    tf.dispose([next.logits, ids]);
    if (before) disposeState(before);
    state = next.state;
    done += length;
  }
  const token = tf.tensor2d([104], [1, 1], 'int32');
  const call = () => {
    const { logits, state: after } = model.next(token, { state: state! });
    return { logits, ...after };
  };
  return {
    candidates: ourCandidates(call),
    checks: [],
    agreement: 1e-3,
    facts: facts(model.stateBytes(1, context), OURS, COMPOSED),
    dispose() {
      token.dispose();
      if (state) disposeState(state);
      model.dispose();
    },
  };
}

function caseOf(series: string, context: number, prepare: () => Promise<Prepared>): Case {
  return { name: nameOf(series, context), series, x: context, work: { tokens: 1 }, prepare };
}

const contexts = [1024, 4096, 16_384, 65_536];

function ends(results: readonly CaseResult[], series: string) {
  return [contexts[0]!, contexts.at(-1)!].map((context) => rowOf(results, nameOf(series, context), OURS));
}

/** One token after a long context. */
export const decode: Suite = {
  name: 'decode',
  title: 'Decoding one token',
  about:
    'Time of one token and bytes of state after a context that was really fed. H = 8, D = 64 for attention; C = 512, N = 16 for the selective scan; the quickstart model as a whole.',
  peers: ['onnxruntime'],
  cases(bench) {
    const sizes = bench.quick ? tiny : usual;
    return (bench.quick ? [16, 40] : contexts).flatMap((context) => [
      caseOf(LINEAR, context, () => linear(context, sizes, bench)),
      caseOf(SSM, context, () => ssm(context, sizes)),
      caseOf(SOFTMAX, context, () => softmax(context, sizes, bench)),
      caseOf(MODEL, context, () => wholeModel(context)),
    ]);
  },
  floors: (results) =>
    [LINEAR, SSM, MODEL].flatMap((series) => {
      const [short, long] = ends(results, series);
      const bytes = short && long && long.facts[STATE_BYTES]! / short.facts[STATE_BYTES]!;
      return [
        floor(`${series}: time after 65536 tokens over time after 1024`, 'at most', 1.1, short && long && long.ms / short.ms),
        floor(`${series}: state bytes after 65536 tokens over those after 1024`, 'at most', 1, bytes),
      ];
    }),
};
