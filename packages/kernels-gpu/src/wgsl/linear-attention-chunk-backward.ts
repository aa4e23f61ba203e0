import type { LinearAttentionInputs } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import {
  PAIR_LANES,
  channelPairsSource,
  headDecayGradientSource,
  keyGradientSource,
  queryGradientSource,
  valueGradientSource,
  wholesSource,
} from './linear-attention-chunk-gradients.ts';
import { FLAT_LANES } from './linear-attention-chunk-states.ts';
import {
  chunkContributions,
  chunkDecays,
  chunkDeltaStates,
  chunkPlan,
  chunkScores,
  chunkStates,
  runChunked,
} from './linear-attention-chunks.ts';
import type { ChunkCall, ChunkDecays, ChunkPlan } from './linear-attention-chunks.ts';
import { joinSource, partSource, scanBackSource, solveBackSource, strengthsSource } from './linear-attention-delta-gradients.ts';
import { TILE, TILE_LANES } from './linear-attention-tiles.ts';
import { SCORE_LANES, scoreGradientsSource } from './linear-attention-triangle.ts';
import { release } from './run.ts';
import type { WgslOutput } from './run.ts';

/** What the gradients of queries, keys and decays follow from. */
interface PairCall {
  readonly query: tf.TensorInfo;
  readonly key: tf.TensorInfo;
  /** what every token writes */
  readonly value: tf.TensorInfo;
  readonly logDecay: tf.TensorInfo | undefined;
  readonly dOutput: tf.TensorInfo;
  readonly states: tf.TensorInfo;
  readonly dStates: tf.TensorInfo;
  readonly scores: tf.TensorInfo;
  /** the last head that shares a state does not see its own token */
  readonly strict: boolean;
}

// everything for all chunks at once
function pairGradients(backend: tf.KernelBackend, plan: ChunkPlan, scale: number, { since, until }: ChunkDecays, call: PairCall) {
  const { query, key, value, logDecay, dOutput, states, dStates, scores } = call;
  const { sizes, shapes, queryHeads, variant } = plan;
  const { batch, time, heads, keyDim, keyQuads, chunks } = sizes;
  const perHead = variant.decay === 'head';
  const perChannel = variant.decay === 'channel';
  const tiles = Math.ceil(keyDim / TILE);
  const quads = ['states', 'dStates', 'scores', 'dScores', 'pairs', ...(perChannel ? ['since', 'until'] : [])];
  const run = <O extends Readonly<Record<string, WgslOutput>>>(one: ChunkCall<O>) => runChunked(backend, plan, scale, { quads, ...one });
  const { dScores, pairs } = run({
    name: 'ScoreGradients',
    source: scoreGradientsSource,
    lanes: SCORE_LANES,
    workgroups: [1, chunks * queryHeads, batch],
    inputs: { dOutput, value, ...(perHead && { logDecay, scores }) },
    outputs: { dScores: { shape: shapes.scores }, ...(perHead && { pairs: { shape: shapes.scores } }) } as Record<
      'dScores' | 'pairs',
      WgslOutput
    >,
    integers: { strict: call.strict ? 1 : 0 },
  });
  const { dQuery, starts } = run({
    name: 'QueryGradient',
    source: queryGradientSource,
    lanes: TILE_LANES,
    workgroups: [tiles, chunks * queryHeads, batch],
    inputs: { dOutput, states, since, query: perHead ? query : undefined, ...(!perChannel && { key, dScores }) },
    outputs: {
      dQuery: { shape: query.shape },
      ...(perHead && { starts: { shape: [batch, time, queryHeads, tiles] } }),
    } as Record<'dQuery' | 'starts', WgslOutput>,
    integers: { tiles },
  });
  const { dKey, ends } = run({
    name: 'KeyGradient',
    source: keyGradientSource,
    lanes: TILE_LANES,
    workgroups: [tiles, chunks * heads, batch],
    inputs: { value, dStates, until, key: perHead ? key : undefined, ...(!perChannel && { query, dScores }) },
    outputs: { dKey: { shape: key.shape }, ...(perHead && { ends: { shape: [batch, time, heads, tiles] } }) } as Record<
      'dKey' | 'ends',
      WgslOutput
    >,
    integers: { tiles },
  });
  let dLogDecay: tf.TensorInfo | undefined;
  if (logDecay) {
    const columns = batch * heads * chunks * keyDim;
    const { wholes } = run({
      name: 'Wholes',
      source: wholesSource,
      lanes: FLAT_LANES,
      workgroups: [Math.ceil(columns / FLAT_LANES)],
      inputs: { since, states, dStates },
      outputs: { wholes: { shape: [batch, heads, chunks, keyDim] } },
      integers: { columns },
    });
    const outputs = { dLogDecay: { shape: logDecay.shape } };
    ({ dLogDecay } = perHead
      ? run({
          name: 'HeadDecayGradient',
          source: () => headDecayGradientSource,
          lanes: PAIR_LANES,
          workgroups: [1, chunks * heads, batch],
          inputs: { pairs, starts, ends, wholes },
          outputs,
          quads: [],
          integers: { tiles },
        })
      : run({
          name: 'ChannelPairs',
          source: channelPairsSource,
          lanes: PAIR_LANES,
          workgroups: [keyQuads, chunks * heads, batch],
          inputs: { query, key, logDecay, dScores, wholes },
          updates: { dQuery, dKey },
          outputs,
          quads: [],
        }));
    release(backend, wholes);
  }
  release(backend, dScores, pairs, starts, ends);
  return { dQuery, dKey, dLogDecay };
}

/**
 * Gradient of `LinearAttention` in chunks, for the rules without recall: the states at the chunks' starts again, the gradients of the states at
 * their ends by the same walk backward in time, then everything for all chunks at once.
 *
 * Dispatches: decays (gated rules), 2 for the states, 2 for their gradients, scores and their gradients, one each for value, query and key; with
 * decays 2 more. That is 9 for the rule `linear` and 12 for `gated`. Scratch: twice the states at the chunks' borders, twice 64 numbers per
 * query, three times with a decay per head; with a decay per channel two tensors like the keys.
 */
export function chunkedGradient(
  backend: tf.KernelBackend,
  inputs: LinearAttentionInputs,
  scale: number,
  upstream: { output: tf.TensorInfo; state: tf.TensorInfo },
) {
  const plan = chunkPlan(inputs, true);
  const { query, key, value, logDecay, state } = inputs;
  const { batch, heads, valueDim, chunks } = plan.sizes;
  const dOutput = upstream.output;
  const decays = chunkDecays(backend, plan, inputs);
  const { since, until } = decays;
  const forth = chunkStates(backend, plan, scale, 'keys', { contributions: { key, until, value }, since, state });
  release(backend, forth.lastState);
  const contributions = { query, since, dOutput };
  const back = chunkStates(backend, plan, scale, 'queries', { contributions, since, state: upstream.state });
  const states = { states: forth.states, dStates: back.states };
  const scores = chunkScores(backend, plan, scale, inputs);
  const { dValue } = runChunked(backend, plan, scale, {
    name: 'ValueGradient',
    source: (variant) => valueGradientSource(variant, false),
    lanes: TILE_LANES,
    workgroups: [Math.ceil(valueDim / TILE), chunks * heads, batch],
    inputs: { key, until, dStates: states.dStates, scores, dOutput },
    outputs: { dValue: { shape: value.shape } },
    quads: ['dStates', 'scores', ...(plan.variant.decay === 'channel' ? ['until'] : [])],
  });
  const pairs = { query, key, value, logDecay, dOutput, ...states, scores, strict: false };
  const { dQuery, dKey, dLogDecay } = pairGradients(backend, plan, scale, decays, pairs);
  release(backend, since, until, states.states, states.dStates, scores);
  if (!state) release(backend, back.lastState);
  return {
    query: dQuery,
    key: dKey,
    value: dValue,
    ...(dLogDecay && { logDecay: dLogDecay }),
    ...(state && { state: back.lastState }),
  };
}

/**
 * Gradient of the delta rules in chunks. A key is one more query of its head, whose reading is subtracted from the value: once the gradients of
 * what tokens write are known, from a walk backward in time and a triangular system per chunk, the rest is what the other rules have.
 *
 * Dispatches: joining keys to the queries, decays, solution and walk forward, 2 for the walk backward and one before it, scores, the system
 * backward, gradients of beta, scores, query and key, parting; with decays 3 more. That is 13 for the rule `delta` and 16 for `gated_delta`.
 * Scratch: as for the other rules with one query head more per state head, and four tensors like the keys and three like the values.
 */
export function chunkedDeltaGradient(
  backend: tf.KernelBackend,
  inputs: LinearAttentionInputs & { readonly beta: tf.Tensor },
  scale: number,
  upstream: { output: tf.TensorInfo; state: tf.TensorInfo },
) {
  const plan = chunkPlan(inputs, true);
  const { query, key, value, logDecay, beta, state } = inputs;
  const { batch, time, heads, keyDim, valueDim, keyQuads, valueQuads, share, chunks } = plan.sizes;
  const rows = batch * time * heads;
  const perChannel = plan.variant.decay === 'channel';
  const quads = ['ending', 'solved', 'dUpdate', 'dStates', 'scores', ...(perChannel ? ['since', 'until'] : [])];
  const run = <O extends Readonly<Record<string, WgslOutput>>>(call: ChunkCall<O>) => runChunked(backend, plan, scale, { quads, ...call });
  const decays = chunkDecays(backend, plan, inputs);
  const { since, until } = decays;
  const { joint, jointUpstream, ending } = run({
    name: 'Join',
    source: joinSource,
    lanes: FLAT_LANES,
    workgroups: [Math.ceil((rows * Math.max(keyQuads, valueQuads)) / FLAT_LANES)],
    inputs: { query, key, dOutput: upstream.output, until },
    outputs: {
      joint: { shape: [batch, time, heads * (share + 1), keyDim] },
      jointUpstream: { shape: [batch, time, heads * (share + 1), valueDim] },
      ending: { shape: plan.shapes.keys },
    },
    integers: { rows },
  });
  const forth = chunkDeltaStates(backend, plan, inputs, decays);
  release(backend, forth.lastState);
  const { states, solved } = forth;
  // the scale is in the queries now
  const joined = chunkPlan({ ...inputs, query: joint as tf.Tensor }, true);
  const dStates = chunkContributions(backend, joined, 1, 'queries', { query: joint, since, dOutput: jointUpstream });
  const scores = chunkScores(backend, joined, 1, { ...inputs, query: joint as tf.Tensor });
  const { dUpdate } = runChunked(backend, joined, 1, {
    name: 'UpdateGradient',
    source: (variant) => valueGradientSource(variant, true),
    lanes: TILE_LANES,
    workgroups: [Math.ceil(valueDim / TILE), chunks * heads, batch],
    inputs: { scores, dOutput: jointUpstream },
    outputs: { dUpdate: { shape: [batch, time, heads, 4 * valueQuads] } },
    quads,
  });
  const { lastState: dState } = run({
    name: 'ScanBack',
    source: scanBackSource,
    lanes: TILE_LANES,
    workgroups: [Math.ceil(valueQuads / plan.tileQuads), heads, batch],
    inputs: { ending, since, beta, solved, state: upstream.state },
    updates: { dUpdate, dStates },
    outputs: { lastState: { shape: [batch, heads, keyDim, valueDim] } },
    integers: { tileQuads: plan.tileQuads },
  });
  const { written: dValue } = runChunked(backend, joined, 1, {
    name: 'SolveBack',
    source: () => solveBackSource,
    lanes: TILE_LANES,
    workgroups: [1, chunks * heads, batch],
    inputs: { scores, beta },
    updates: { dUpdate, keyUpstream: jointUpstream },
    outputs: { written: { shape: value.shape } },
    quads: ['scores'],
  });
  const { update, dBeta } = run({
    name: 'Strengths',
    source: strengthsSource,
    lanes: FLAT_LANES,
    workgroups: [Math.ceil(rows / FLAT_LANES)],
    inputs: { solved, dUpdate, beta },
    outputs: { update: { shape: value.shape }, dBeta: { shape: beta.shape } },
    integers: { rows },
  });
  release(backend, ending, solved, dUpdate);
  const pairs = { query: joint, key, value: update, logDecay, dOutput: jointUpstream, states, dStates, scores, strict: true };
  const { dQuery: dJoint, dKey, dLogDecay } = pairGradients(backend, joined, 1, decays, pairs);
  const { dQuery } = run({
    name: 'Part',
    source: partSource,
    lanes: FLAT_LANES,
    workgroups: [Math.ceil((rows * keyQuads) / FLAT_LANES)],
    inputs: { joint: dJoint },
    updates: { dKey },
    outputs: { dQuery: { shape: query.shape } },
    integers: { rows },
  });
  release(backend, since, until, joint, jointUpstream, states, dStates, scores, update, dJoint);
  if (!state) release(backend, dState);
  return {
    query: dQuery,
    key: dKey,
    value: dValue,
    beta: dBeta,
    ...(dLogDecay && { logDecay: dLogDecay }),
    ...(state && { state: dState }),
  };
}
