import * as tf from '@tensorflow/tfjs-core';
import { nextPowerOfTwo } from '../../numerics/block-triangle.ts';
import { unitLowerTriangularInverse } from '../../numerics/triangular-inverse.ts';
import { ChannelDecay } from './channel-decay.ts';
import type { ChunkDecay } from './chunk-decay.ts';
import { HeadDecay, NoDecay } from './head-decay.ts';
import type { LinearAttentionAttributes, LinearAttentionInputs } from '../linear-attention.ts';

/**
 * Chunked linear attention, composed of tfjs ops.
 *
 * Glossary, per chunk of C tokens and state head, with entering state S [Dk, Dv], D_ij = exp(g_{j+1} + ... + g_i):
 *
 *   R = V - (K decayed from the start) S          what the delta rules still have to write
 *   U = (I + A)^-1 beta R,  A_ij = beta_i (k_i D_ij k_j), i > j     (U = V without a delta rule)
 *   O = scale ((Q decayed from the start) S + P U),  P_ij = q_i D_ij k_j, i >= j
 *   S' = (whole decay) S + (K decayed to the end)^T U
 *
 * Only R, U and S' walk from chunk to chunk; all else is one batched call over all chunks. Chunks are outermost: [N * B * H, C, ...].
 */
interface ChunkLayout {
  readonly batch: number;
  readonly length: number;
  /** state heads H */
  readonly heads: number;
  /** query heads per state head */
  readonly group: number;
  readonly chunks: number;
  readonly chunkSize: number;
}

function layoutOf(inputs: LinearAttentionInputs, attributes: LinearAttentionAttributes): ChunkLayout {
  const [batch, length, queryHeads] = inputs.query.shape as [number, number, number];
  const heads = inputs.key.shape[2]!;
  const chunkSize = nextPowerOfTwo(Math.min(attributes.chunkSize, length));
  return { batch, length, heads, group: queryHeads / heads, chunks: Math.ceil(length / chunkSize), chunkSize };
}

// [B, T, H * rows, D] -> [N * B * H, C * rows, D]; padded tokens are zeros, which neither write nor decay
function toChunks(tensor: tf.Tensor, layout: ChunkLayout): tf.Tensor3D {
  const { batch, length, heads, chunks, chunkSize } = layout;
  const width = tensor.shape[3]!;
  const rows = tensor.shape[2]! / heads;
  const final: [number, number, number] = [chunks * batch * heads, chunkSize * rows, width];
  if (length === 1) return tf.reshape(tensor, final);
  return tf.tidy(() => {
    const missing = chunks * chunkSize - length;
    const whole = missing
      ? tf.pad(tensor, [
          [0, 0],
          [0, missing],
          [0, 0],
          [0, 0],
        ])
      : tensor;
    const split = tf.reshape(whole, [batch, chunks, chunkSize, heads, rows * width]);
    return tf.reshape(tf.transpose(split, [1, 0, 3, 2, 4]), final);
  });
}

// the way back: [N * B * H, C * rows, D] -> [B, T, H * rows, D]
function fromChunks(tensor: tf.Tensor3D, layout: ChunkLayout): tf.Tensor4D {
  const { batch, length, heads, chunks, chunkSize } = layout;
  const width = tensor.shape[2];
  const rows = tensor.shape[1] / chunkSize;
  if (length === 1) return tf.reshape(tensor, [batch, 1, heads * rows, width]);
  return tf.tidy(() => {
    const split = tf.reshape(tensor, [chunks, batch, heads, chunkSize, rows * width]);
    const joined = tf.reshape(tf.transpose(split, [1, 0, 3, 2, 4]), [batch, chunks * chunkSize, heads * rows, width]) as tf.Tensor4D;
    return chunks * chunkSize === length ? joined : tf.slice(joined, [0, 0, 0, 0], [batch, length, heads * rows, width]);
  });
}

interface Walk {
  readonly layout: ChunkLayout;
  readonly decay: ChunkDecay;
  readonly query: tf.Tensor3D; // [M, C * group, Dk]
  readonly key: tf.Tensor3D; // [M, C, Dk]
  /** keys decayed to the end of their chunk */
  readonly keyToEnd: tf.Tensor3D;
  /** state entering every chunk, [M, Dk, Dv] */
  readonly states: tf.Tensor3D;
  /** what every token writes, U [M, C, Dv] */
  readonly update: tf.Tensor3D;
  readonly finalState: tf.Tensor3D; // [B * H, Dk, Dv]
  readonly delta: DeltaParts | undefined;
}

interface DeltaParts {
  readonly beta: tf.Tensor3D; // [M, C, 1]
  readonly keyFromStart: tf.Tensor3D; // [M, C, Dk]
  /** k_i D_ij k_j below the diagonal, [M, C, C] */
  readonly overlap: tf.Tensor3D;
  readonly inverse: tf.Tensor3D; // [M, C, C]
  readonly residual: tf.Tensor3D; // R [M, C, Dv]
}

// below this an exponential is 0 in float32; it keeps -Infinity (a hard reset) out of sums and products
const LOWEST_LOG_DECAY = -1000;

function decayOf(logDecay: tf.Tensor | undefined, layout: ChunkLayout): ChunkDecay {
  if (!logDecay) return new NoDecay();
  const perChannel = logDecay.shape.length === 4;
  const wide = perChannel ? logDecay : tf.expandDims(logDecay, 3);
  const chunked = toChunks(tf.maximum(wide, LOWEST_LOG_DECAY), layout);
  return perChannel ? new ChannelDecay(chunked) : new HeadDecay(chunked);
}

function perChunk<T extends tf.Tensor>(tensor: T, count: number): T[] {
  return count === 1 ? [tensor] : (tf.split(tensor, count, 0) as T[]);
}

function joined(tensors: tf.Tensor3D[]): tf.Tensor3D {
  return tensors.length === 1 ? tensors[0]! : tf.concat(tensors, 0);
}

// walks the states forward
function walk(inputs: LinearAttentionInputs, attributes: LinearAttentionAttributes): Walk {
  const layout = layoutOf(inputs, attributes);
  const { batch, heads, chunks } = layout;
  const decay = decayOf(inputs.logDecay, layout);
  const query = toChunks(inputs.query, layout);
  const key = toChunks(inputs.key, layout);
  const value = toChunks(inputs.value, layout);
  const keyToEnd = decay.toEnd(key);
  const keyDim = key.shape[2];
  const valueDim = value.shape[2];
  const whole = decay.whole && perChunk(decay.whole, chunks);
  const fade = (state: tf.Tensor3D, chunk: number): tf.Tensor3D => (whole ? tf.mul(state, whole[chunk]!) : state);
  let state: tf.Tensor3D = inputs.state
    ? tf.reshape(inputs.state, [batch * heads, keyDim, valueDim])
    : tf.zeros([batch * heads, keyDim, valueDim]);
  const states: tf.Tensor3D[] = [];
  if (!inputs.beta) {
    const written = perChunk(tf.matMul(keyToEnd, value, true, false) as tf.Tensor3D, chunks);
    for (let chunk = 0; chunk < chunks; chunk++) {
      states.push(state);
      state = tf.add(fade(state, chunk), written[chunk]!);
    }
    return { layout, decay, query, key, keyToEnd, states: joined(states), update: value, finalState: state, delta: undefined };
  }
  const beta = toChunks(tf.expandDims(inputs.beta, 3), layout);
  const keyFromStart = decay.fromStart(key, 1);
  const overlap = decay.scores(key, key, 1, 'strictly-lower');
  const inverse = unitLowerTriangularInverse(tf.mul(overlap, beta));
  const parts = [value, beta, keyFromStart, inverse, keyToEnd].map((tensor) => perChunk(tensor, chunks));
  const residuals: tf.Tensor3D[] = [];
  const updates: tf.Tensor3D[] = [];
  for (let chunk = 0; chunk < chunks; chunk++) {
    const [values, betas, starts, inverses, ends] = parts.map((part) => part[chunk]!) as [
      tf.Tensor3D,
      tf.Tensor3D,
      tf.Tensor3D,
      tf.Tensor3D,
      tf.Tensor3D,
    ];
    states.push(state);
    const residual = tf.sub(values, tf.matMul(starts, state)) as tf.Tensor3D;
    const update = tf.matMul(inverses, tf.mul(residual, betas)) as tf.Tensor3D;
    state = tf.add(fade(state, chunk), tf.matMul(ends, update, true, false));
    residuals.push(residual);
    updates.push(update);
  }
  const delta = { beta, keyFromStart, overlap, inverse, residual: joined(residuals) };
  return { layout, decay, query, key, keyToEnd, states: joined(states), update: joined(updates), finalState: state, delta };
}

/** The composed `LinearAttention` kernel: output [B, T, Hq, Dv] and final state [B, H, Dk, Dv]. */
export function linearAttentionForward(
  inputs: LinearAttentionInputs,
  attributes: LinearAttentionAttributes,
): { output: tf.Tensor; state: tf.Tensor } {
  const { layout, decay, query, key, states, update, finalState } = walk(inputs, attributes);
  const { batch, heads, group } = layout;
  const scaled = tf.mul(query, attributes.scale) as tf.Tensor3D;
  const read = tf.matMul(decay.fromStart(scaled, group), states);
  const within = tf.matMul(decay.scores(scaled, key, group, 'lower'), update);
  const output = fromChunks(tf.add(read, within), layout);
  return { output, state: tf.reshape(finalState, [batch, heads, ...finalState.shape.slice(1)]) };
}

/** The composed gradient: recomputes the chunk states forward, then walks the chunks backward. */
export function linearAttentionGradient(
  inputs: LinearAttentionInputs,
  attributes: LinearAttentionAttributes,
  upstream: { output: tf.Tensor; state: tf.Tensor },
): { [K in keyof LinearAttentionInputs]?: tf.Tensor } {
  const { layout, decay, query, key, keyToEnd, states, update, delta } = walk(inputs, attributes);
  const { batch, heads, group, chunks } = layout;
  const [keyDim, valueDim] = states.shape.slice(1) as [number, number];
  const scaled = tf.mul(query, attributes.scale) as tf.Tensor3D;
  const queryFromStart = decay.fromStart(scaled, group);
  const scores = decay.scores(scaled, key, group, 'lower');
  const dOutput = toChunks(upstream.output, layout); // [M, C * group, Dv]

  // backward walk: gradient of the state leaving every chunk, and for the delta rules of what was written
  const dRead = perChunk(tf.matMul(queryFromStart, dOutput, true, false) as tf.Tensor3D, chunks);
  const dWithin = tf.matMul(scores, dOutput, true, false) as tf.Tensor3D;
  const whole = decay.whole && perChunk(decay.whole, chunks);
  let dState = tf.reshape(upstream.state, [batch * heads, keyDim, valueDim]) as tf.Tensor3D;
  const dStates: tf.Tensor3D[] = [];
  const dSolved: tf.Tensor3D[] = []; // gradient of beta R
  const deltaParts = delta && {
    within: perChunk(dWithin, chunks),
    end: perChunk(keyToEnd, chunks),
    start: perChunk(delta.keyFromStart, chunks),
    inverse: perChunk(delta.inverse, chunks),
    beta: perChunk(delta.beta, chunks),
  };
  for (let chunk = chunks - 1; chunk >= 0; chunk--) {
    dStates[chunk] = dState;
    let entering = tf.add(whole ? tf.mul(dState, whole[chunk]!) : dState, dRead[chunk]!) as tf.Tensor3D;
    if (deltaParts) {
      const dUpdate = tf.add(deltaParts.within[chunk]!, tf.matMul(deltaParts.end[chunk]!, dState));
      const solved = tf.matMul(deltaParts.inverse[chunk]!, dUpdate, true, false) as tf.Tensor3D;
      dSolved[chunk] = solved;
      const dResidual = tf.mul(solved, deltaParts.beta[chunk]!) as tf.Tensor3D;
      entering = tf.sub(entering, tf.matMul(deltaParts.start[chunk]!, dResidual, true, false));
    }
    dState = entering;
  }
  const dLeaving = joined(dStates); // [M, Dk, Dv]

  // everything else, all chunks at once
  const dQueryFromStart = tf.matMul(dOutput, states, false, true) as tf.Tensor3D;
  let dQuery = decay.fromStartGradient(dQueryFromStart, queryFromStart, group);
  const dScores = tf.matMul(dOutput, update, false, true) as tf.Tensor3D;
  const within = decay.scoresGradient({ upstream: dScores, scores, rows: scaled, key, group, triangle: 'lower' });
  dQuery = tf.add(dQuery, within.rows);
  const dKeyToEnd = tf.matMul(update, dLeaving, false, true) as tf.Tensor3D;
  let dKey: tf.Tensor3D = tf.add(within.key, decay.toEndGradient(dKeyToEnd, keyToEnd));
  if (decay.whole) decay.wholeGradient(tf.mul(tf.sum(tf.mul(dLeaving, states), 2, true), decay.whole));
  let dValue: tf.Tensor3D;
  let dBeta: tf.Tensor3D | undefined;
  if (delta) {
    const solved = joined(dSolved); // [M, C, Dv]
    dValue = tf.mul(solved, delta.beta);
    const dKeyFromStart = tf.neg(tf.matMul(dValue, states, false, true)) as tf.Tensor3D;
    dKey = tf.add(dKey, decay.fromStartGradient(dKeyFromStart, delta.keyFromStart, 1));
    const dSystem = tf.neg(tf.matMul(solved, update, false, true)) as tf.Tensor3D; // gradient of A, all entries
    const dOverlap = tf.mul(dSystem, delta.beta) as tf.Tensor3D;
    const overlap = decay.scoresGradient({
      upstream: dOverlap,
      scores: delta.overlap,
      rows: key,
      key,
      group: 1,
      triangle: 'strictly-lower',
    });
    dKey = tf.addN([dKey, overlap.rows, overlap.key]);
    dBeta = tf.add(tf.sum(tf.mul(solved, delta.residual), 2, true), tf.sum(tf.mul(dSystem, delta.overlap), 2, true));
  } else {
    dValue = tf.add(dWithin, tf.matMul(keyToEnd, dLeaving));
  }
  const dLogDecay = decay.logDecayGradient();
  const withoutLast = (tensor: tf.Tensor4D): tf.Tensor => tf.squeeze(tensor, [3]);
  return {
    query: fromChunks(tf.mul(dQuery, attributes.scale), layout),
    key: fromChunks(dKey, layout),
    value: fromChunks(dValue, layout),
    ...(inputs.logDecay && dLogDecay
      ? { logDecay: inputs.logDecay.shape.length === 4 ? fromChunks(dLogDecay, layout) : withoutLast(fromChunks(dLogDecay, layout)) }
      : {}),
    ...(dBeta ? { beta: withoutLast(fromChunks(dBeta, layout)) } : {}),
    ...(inputs.state ? { state: tf.reshape(dState, [batch, heads, keyDim, valueDim]) } : {}),
  };
}
