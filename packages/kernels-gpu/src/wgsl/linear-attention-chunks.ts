import type { LinearAttentionInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import {
  FLAT_LANES,
  HELD_STATE,
  carrySource,
  contributionsSource,
  decaysSource,
  outputsSource,
  scanSource,
} from './linear-attention-chunk-states.ts';
import { CHUNK } from './linear-attention-quads.ts';
import type { ChunkVariant } from './linear-attention-quads.ts';
import { TILE, TILE_LANES } from './linear-attention-tiles.ts';
import { SCORE_LANES, SOLVE_LANES, scoresSource, solveSource } from './linear-attention-triangle.ts';
import { release, runWgsl, sizeOf } from './run.ts';
import type { WgslOutput } from './run.ts';
import { sourceOf } from './source-cache.ts';

/** Sizes of a chunked call. */
export function chunkPlan({ query, key, value, logDecay }: LinearAttentionInputs, apart = false) {
  const [batch, time, heads, keyDim] = key.shape as [number, number, number, number];
  const valueDim = value.shape[3]!;
  const variant: ChunkVariant = {
    decay: !logDecay ? 'none' : logDecay.shape.length === 4 ? 'channel' : 'head',
    wide: keyDim % 4 === 0 && valueDim % 4 === 0,
    apart,
  };
  const keyQuads = Math.ceil(keyDim / 4);
  const valueQuads = Math.ceil(valueDim / 4);
  const chunks = Math.ceil(time / CHUNK);
  const queryHeads = query.shape[2]!;
  return {
    variant,
    suffix: `${variant.decay}-${variant.wide ? 'wide' : 'narrow'}${apart && variant.decay === 'channel' ? '-apart' : ''}`,
    sizes: { batch, time, heads, keyDim, valueDim, share: queryHeads / heads, keyQuads, valueQuads, chunks },
    queryHeads,
    tileQuads: 4 * keyQuads * 4 <= HELD_STATE ? 4 : 2,
    // rows of whole vectors
    shapes: {
      states: [batch, heads, chunks, keyDim, 4 * valueQuads],
      scores: [batch, time, queryHeads, CHUNK],
      keys: [batch, time, heads, 4 * keyQuads],
      solved: [batch, heads, chunks, CHUNK, 4 * (keyQuads + valueQuads)],
    },
  };
}

/** The plan of a chunked call. */
export type ChunkPlan = ReturnType<typeof chunkPlan>;

/** Bytes of the largest tensor that a chunked call or its gradient makes for itself. */
export function chunkBytes(inputs: LinearAttentionInputs): number {
  const { shapes, variant, sizes, queryHeads } = chunkPlan(inputs);
  const { batch, time, heads, keyDim, valueDim } = sizes;
  const made = [shapes.states, shapes.scores];
  // the gradient of the delta rules joins keys to the queries
  if (inputs.beta) made.push(shapes.solved, [batch, time, queryHeads + heads, Math.max(CHUNK, keyDim, valueDim)]);
  if (variant.decay === 'channel') made.push(shapes.keys);
  return 4 * Math.max(...made.map(sizeOf));
}

type Tensors = Readonly<Record<string, tf.TensorInfo | undefined>>;

/** One dispatch of a chunked shader, see `runWgsl`. */
export interface ChunkCall<O> {
  readonly name: string;
  readonly source: (variant: ChunkVariant) => string;
  readonly lanes: number;
  readonly workgroups: readonly [number, number?, number?];
  readonly inputs: Tensors;
  readonly updates?: Readonly<Record<string, tf.TensorInfo>>;
  readonly outputs: O;
  /** tensors in rows of whole vectors, besides those that the caller of the kernel brought, which are where their widths are multiples of 4 */
  readonly quads?: readonly string[];
  readonly integers?: Readonly<Record<string, number>>;
}

const OWN_WIDTH = [
  'query',
  'key',
  'value',
  'state',
  'output',
  'lastState',
  'dOutput',
  'dQuery',
  'dKey',
  'dValue',
  'joint',
  'jointUpstream',
  'update',
];

/** Runs one dispatch of a chunked shader. */
export function runChunked<O extends Readonly<Record<string, WgslOutput>>>(
  backend: tf.KernelBackend,
  { variant, suffix, sizes }: ChunkPlan,
  scale: number,
  { name, source, lanes, workgroups, inputs, updates, outputs, quads = [], integers }: ChunkCall<O>,
) {
  const named = `LinearAttention${name}-${suffix}`;
  const given = Object.fromEntries(Object.entries(inputs).filter(([, tensor]) => tensor));
  return runWgsl(backend, {
    name: named,
    source: sourceOf(named, () => source(variant)),
    workgroupSize: [lanes],
    workgroups,
    inputs: given,
    ...(updates && { updates }),
    outputs,
    vec4: [...quads, ...(variant.wide ? [...OWN_WIDTH, ...(variant.decay === 'channel' ? ['logDecay', 'dLogDecay'] : [])] : [])],
    integers: { ...sizes, ...integers },
    floats: { scale },
  });
}

/** What decays leave inside every chunk, see `decaysSource`. */
export interface ChunkDecays {
  readonly since?: tf.TensorInfo;
  readonly until?: tf.TensorInfo;
  readonly ending?: tf.TensorInfo;
}

/** What decays leave inside every chunk; nothing without decays. */
export function chunkDecays(backend: tf.KernelBackend, plan: ChunkPlan, { key, logDecay }: LinearAttentionInputs): ChunkDecays {
  if (!logDecay) return {};
  const { batch, heads, chunks, keyQuads } = plan.sizes;
  const perChannel = plan.variant.decay === 'channel';
  const columns = batch * chunks * heads * (perChannel ? keyQuads : 1);
  const shape = perChannel ? plan.shapes.keys : logDecay.shape;
  const second = perChannel && !plan.variant.apart ? 'ending' : 'until';
  return runChunked(backend, plan, 1, {
    name: 'ChunkDecays',
    source: decaysSource,
    lanes: FLAT_LANES,
    workgroups: [Math.ceil(columns / FLAT_LANES)],
    inputs: { logDecay, key: second === 'ending' ? key : undefined },
    outputs: { since: { shape }, [second]: { shape } },
    quads: perChannel ? ['since', second] : [],
    integers: { columns },
  });
}

const decayQuads = ({ variant }: ChunkPlan): string[] => (variant.decay === 'channel' ? ['since', 'until', 'ending'] : []);

/** What every chunk adds to the state, or to its gradient, see `contributionsSource`. */
export function chunkContributions(
  backend: tf.KernelBackend,
  plan: ChunkPlan,
  scale: number,
  of: 'keys' | 'queries',
  inputs: Tensors,
): tf.TensorInfo {
  const { batch, heads, keyDim, valueDim, chunks } = plan.sizes;
  return runChunked(backend, plan, scale, {
    name: of === 'keys' ? 'Contributions' : 'UpstreamContributions',
    source: (variant) => contributionsSource(variant, of),
    lanes: TILE_LANES,
    workgroups: [Math.ceil(keyDim / TILE) * Math.ceil(valueDim / TILE), chunks * heads, batch],
    inputs,
    outputs: { states: { shape: plan.shapes.states } },
    quads: ['states', ...decayQuads(plan)],
  }).states;
}

/**
 * States at the starts of the chunks, and the last state, for rules without recall; with the gradients of outputs and last state instead the
 * gradients of the states at the chunks' ends, and of the first one.
 */
export function chunkStates(
  backend: tf.KernelBackend,
  plan: ChunkPlan,
  scale: number,
  of: 'keys' | 'queries',
  tensors: { readonly contributions: Tensors; readonly since: tf.TensorInfo | undefined; readonly state: tf.TensorInfo | undefined },
): { states: tf.TensorInfo; lastState: tf.TensorInfo } {
  const { batch, heads, keyDim, valueDim, valueQuads } = plan.sizes;
  const states = chunkContributions(backend, plan, scale, of, tensors.contributions);
  const columns = batch * heads * keyDim * valueQuads;
  const { lastState } = runChunked(backend, plan, scale, {
    name: 'Carry',
    source: carrySource,
    lanes: FLAT_LANES,
    workgroups: [Math.ceil(columns / FLAT_LANES)],
    // something is bound in the place of a state that is absent
    inputs: { since: tensors.since, state: tensors.state ?? tensors.contributions['key'] ?? tensors.contributions['value'] },
    updates: { states },
    outputs: { lastState: { shape: [batch, heads, keyDim, valueDim] } },
    quads: ['states', ...decayQuads(plan)],
    integers: { hasState: tensors.state ? 1 : 0, columns, backward: of === 'keys' ? 0 : 1 },
  });
  return { states, lastState };
}

/**
 * The same for the delta rules, with `solved`: what every token finds missing, beside the W that it came from.
 */
export function chunkDeltaStates(
  backend: tf.KernelBackend,
  plan: ChunkPlan,
  { key, value, logDecay, beta, state }: LinearAttentionInputs,
  { since, until, ending }: ChunkDecays,
): { states: tf.TensorInfo; lastState: tf.TensorInfo; solved: tf.TensorInfo } {
  const { batch, heads, keyDim, valueDim, valueQuads, chunks } = plan.sizes;
  const { solved } = runChunked(backend, plan, 1, {
    name: 'Solve',
    source: solveSource,
    lanes: SOLVE_LANES,
    workgroups: [1, chunks * heads, batch],
    inputs: { key, value, beta, logDecay, since },
    outputs: { solved: { shape: plan.shapes.solved } },
  });
  const made = runChunked(backend, plan, 1, {
    name: 'Scan',
    source: scanSource,
    lanes: TILE_LANES,
    workgroups: [Math.ceil(valueQuads / plan.tileQuads), heads, batch],
    inputs: { ...(ending ? { ending } : { key, until }), since, beta, state: state ?? key },
    updates: { solved },
    outputs: { states: { shape: plan.shapes.states }, lastState: { shape: [batch, heads, keyDim, valueDim] } },
    quads: ['solved', 'states', ...decayQuads(plan)],
    integers: { hasState: state ? 1 : 0, tileQuads: plan.tileQuads },
  });
  return { ...made, solved };
}

/** The scores of every chunk, times the scale. */
export function chunkScores(
  backend: tf.KernelBackend,
  plan: ChunkPlan,
  scale: number,
  { query, key, logDecay }: LinearAttentionInputs,
): tf.TensorInfo {
  return runChunked(backend, plan, scale, {
    name: 'Scores',
    source: scoresSource,
    lanes: SCORE_LANES,
    workgroups: [1, plan.sizes.chunks * plan.queryHeads, plan.sizes.batch],
    inputs: { query, key, logDecay },
    outputs: { scores: { shape: plan.shapes.scores } },
    quads: ['scores'],
  }).scores;
}

/**
 * `LinearAttention` in chunks of 64 tokens: everything but one light walk over the chunks is done for all chunks at once.
 *
 * Dispatches: decays (gated rules); contributions and carry, or solve and scan for the delta rules; scores; outputs. That is 4, or 5 with a decay.
 * Scratch: the states at the starts of the chunks, Dk / 64 times the values; the scores, 64 numbers per query; with a decay per channel two
 * tensors like the keys; with a delta rule one like keys and values together.
 */
export function chunkedForward(
  backend: tf.KernelBackend,
  inputs: LinearAttentionInputs,
  scale: number,
): { output: tf.TensorInfo; state: tf.TensorInfo } {
  const plan = chunkPlan(inputs);
  const { query, key, value, beta, state } = inputs;
  const { batch, time, valueDim, chunks } = plan.sizes;
  const decays = chunkDecays(backend, plan, inputs);
  const { since, until, ending } = decays;
  let solved: tf.TensorInfo | undefined;
  let walked: { states: tf.TensorInfo; lastState: tf.TensorInfo };
  if (beta) ({ solved, ...walked } = chunkDeltaStates(backend, plan, inputs, decays));
  else {
    const contributions = { ...(ending ? { ending } : { key, until }), value };
    walked = chunkStates(backend, plan, scale, 'keys', { contributions, since, state });
  }
  const { states, lastState } = walked;
  const scores = chunkScores(backend, plan, scale, inputs);
  const { output } = runChunked(backend, plan, scale, {
    name: beta ? 'OutputsOfSolved' : 'Outputs',
    source: (kind) => outputsSource(kind, beta !== undefined),
    lanes: TILE_LANES,
    workgroups: [Math.ceil(valueDim / TILE), chunks * plan.queryHeads, batch],
    inputs: { query, since, states, scores, ...(solved ? { solved, beta } : { value }) },
    outputs: { output: { shape: [batch, time, plan.queryHeads, valueDim] } },
    quads: ['states', 'scores', 'solved', ...decayQuads(plan)],
  });
  release(backend, since, until, ending, states, scores, solved);
  return { output, state: lastState };
}
