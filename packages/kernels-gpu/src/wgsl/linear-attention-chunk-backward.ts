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
import { chunkDecays, chunkPlan, chunkScores, chunkStates, runChunked } from './linear-attention-chunks.ts';
import type { ChunkCall } from './linear-attention-chunks.ts';
import { TILE, TILE_LANES } from './linear-attention-tiles.ts';
import { SCORE_LANES, scoreGradientsSource } from './linear-attention-triangle.ts';
import { release } from './run.ts';
import type { WgslOutput } from './run.ts';

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
  const { sizes, shapes, queryHeads, variant } = plan;
  const { batch, time, heads, keyDim, valueDim, keyQuads, chunks } = sizes;
  const run = <O extends Readonly<Record<string, WgslOutput>>>(call: ChunkCall<O>) => runChunked(backend, plan, scale, call);
  const { decay } = variant;
  const perHead = decay === 'head';
  const perChannel = decay === 'channel';
  const tiles = Math.ceil(keyDim / TILE);
  const dOutput = upstream.output;
  const { since, until } = chunkDecays(backend, plan, inputs);
  const quads = ['states', 'dStates', 'scores', 'dScores', 'pairs', ...(perChannel ? ['since', 'until'] : [])];
  const forth = chunkStates(backend, plan, scale, 'keys', { contributions: { key, until, value }, since, state });
  release(backend, forth.lastState);
  const { states } = forth;
  const back = chunkStates(backend, plan, scale, 'queries', {
    contributions: { query, since, dOutput },
    since,
    state: upstream.state,
  });
  const dStates = back.states;
  const scores = chunkScores(backend, plan, scale, inputs);
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
    quads,
  });
  const { dValue } = run({
    name: 'ValueGradient',
    source: valueGradientSource,
    lanes: TILE_LANES,
    workgroups: [Math.ceil(valueDim / TILE), chunks * heads, batch],
    inputs: { key, until, dStates, scores, dOutput },
    outputs: { dValue: { shape: value.shape } },
    quads,
  });
  const { dQuery, starts } = run({
    name: 'QueryGradient',
    source: queryGradientSource,
    lanes: TILE_LANES,
    workgroups: [tiles, chunks * queryHeads, batch],
    inputs: { dOutput, states, since, query: perHead ? query : undefined, ...(!perChannel && { key, dScores }) },
    outputs: { dQuery: { shape: query.shape }, ...(perHead && { starts: { shape: [batch, time, queryHeads, tiles] } }) } as Record<
      'dQuery' | 'starts',
      WgslOutput
    >,
    quads,
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
    quads,
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
      quads,
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
        }));
    release(backend, wholes);
  }
  release(backend, since, until, states, dStates, scores, dScores, pairs, starts, ends);
  if (!state) release(backend, back.lastState);
  return { query: dQuery, key: dKey, value: dValue, ...(dLogDecay && { logDecay: dLogDecay }), ...(state && { state: back.lastState }) };
}
