import * as tf from '@tensorflow/tfjs-core';
import type { SoftmaxAttentionAttributes, SoftmaxAttentionInputs } from '../softmax-attention.ts';
import { FLOOR, planTiles } from './tiles.ts';
import type { TileTerms } from './tiles.ts';

/**
 * Swaps time and heads, [B, T, H, C] <-> [B, H, T, C]; a reshape where one of them is 1.
 *
 * @param x [B, T, H, C]
 * @returns [B, H, T, C]
 */
export function swapTimeAndHeads(x: tf.Tensor): tf.Tensor4D {
  const [B, T, H, C] = x.shape as [number, number, number, number];
  return (T === 1 || H === 1 ? tf.reshape(x, [B, H, T, C]) : tf.transpose(x, [0, 2, 1, 3])) as tf.Tensor4D;
}

/**
 * The rows [start, start + length) of axis 2 of a [B, H, T, C] tensor; the tensor itself where that is all of it.
 *
 * @param x [B, H, T, C]
 * @returns [B, H, length, C]
 */
export function rows(x: tf.Tensor, [start, length]: readonly [number, number]): tf.Tensor {
  return x.shape[2] === length ? x : tf.slice(x, [0, 0, start, 0], [-1, -1, length, -1]);
}

/** Scores of one tile, and what the soft cap's derivative needs. */
export interface TileScores {
  /** [B, H, tq, sk], hidden keys at `HIDDEN` */
  readonly scores: tf.Tensor;
  /** tanh(s / c) before any bias, only with a soft cap */
  readonly squashed: tf.Tensor | null;
}

/**
 * Scores of one tile: capped products, plus ALiBi, bias and mask.
 *
 * @param query [B, H, tq, D], already scaled
 * @param key [B, G, sk, D]
 * @param terms of the tile
 * @param extra slopes [1, H, 1, 1] and the tile's bias [1 or B, 1 or H, tq, sk]
 */
export function tileScores(
  query: tf.Tensor,
  key: tf.Tensor,
  terms: TileTerms,
  extra: { readonly slopes: tf.Tensor | null; readonly bias: tf.Tensor | null; readonly softCap: number | null },
): TileScores {
  const [B, H, tq] = query.shape as [number, number, number];
  const sk = key.shape[2]!;
  let scores: tf.Tensor = tf.reshape(tf.matMul(groupHeads(query, key.shape[1]!), key, false, true), [B, H, tq, sk]);
  let squashed: tf.Tensor | null = null;
  if (extra.softCap !== null) {
    squashed = tf.tanh(tf.mul(scores, 1 / extra.softCap));
    scores = tf.mul(squashed, extra.softCap);
  }
  if (extra.slopes) scores = tf.sub(scores, tf.mul(terms.distance!, extra.slopes));
  if (extra.bias) scores = tf.add(scores, extra.bias);
  if (terms.mask) scores = tf.add(scores, terms.mask);
  return { scores, squashed };
}

/** [B, H, t, C] -> [B, G, (H/G) t, C]: the heads of a group are consecutive, so their rows line up against one key head. */
export function groupHeads(x: tf.Tensor, groups: number): tf.Tensor {
  const [B, H, t, C] = x.shape as [number, number, number, number];
  return H === groups ? x : tf.reshape(x, [B, groups, (H / groups) * t, C]);
}

/**
 * The bias of one tile.
 *
 * @returns [1 or B, 1 or H, tq, sk], or null without bias
 */
export function tileBias(
  bias: tf.Tensor | undefined,
  [q0, tq]: readonly [number, number],
  [k0, sk]: readonly [number, number],
): tf.Tensor | null {
  if (!bias) return null;
  return bias.shape[2] === tq && bias.shape[3] === sk ? bias : tf.slice(bias, [0, 0, q0, k0], [-1, -1, tq, sk]);
}

/** Running maximum and denominator [B, H, tq, 1], and numerator [B, H, tq, Dv] once a tile was seen. */
type Running = { maximum: tf.Tensor; total: tf.Tensor; weighted: tf.Tensor | undefined };

/** Before the first tile: nothing seen, or a sink logit as a key seen before all others. */
function start(shape: [number, number, number, number], sink: tf.Tensor | null): Running {
  if (!sink) return { maximum: tf.fill(shape, FLOOR), total: tf.zeros(shape), weighted: undefined };
  const maximum = tf.add(tf.zeros(shape), tf.maximum(sink, FLOOR));
  return { maximum, total: tf.exp(tf.sub(sink, maximum)), weighted: undefined };
}

/** Online softmax over tiles of keys, one block of queries after another; runs inside a tidy. */
export function attentionForward(
  inputs: SoftmaxAttentionInputs,
  attributes: SoftmaxAttentionAttributes,
): { output: tf.Tensor; logSumExp: tf.Tensor } {
  const [B, T, H] = inputs.query.shape as [number, number, number];
  const [, , G, Dv] = inputs.value.shape as [number, number, number, number];
  const tiles = planTiles(inputs, attributes);
  const query = swapTimeAndHeads(tf.mul(inputs.query, attributes.scale)); // [B, H, T, D]
  const key = swapTimeAndHeads(inputs.key); // [B, G, S, D]
  const value = swapTimeAndHeads(inputs.value); // [B, G, S, Dv]
  const slopes = inputs.slopes ? tf.reshape(inputs.slopes, [1, H, 1, 1]) : null;
  const sink = inputs.sinkLogits ? tf.reshape(inputs.sinkLogits, [1, H, 1, 1]) : null;

  const outputs: tf.Tensor[] = [];
  const sums: tf.Tensor[] = [];
  tiles.queryBlocks.forEach((queryBlock, i) => {
    const tq = queryBlock[1];
    const queryRows = rows(query, queryBlock);
    let running: Running = tf.tidy(() => start([B, H, tq, 1], sink));
    tiles.keyBlocks.forEach((keyBlock, j) => {
      // made outside the tile's tidy: masks are shared between tiles
      const terms = tiles.terms(i, j);
      if (terms === 'none') return;
      const before = running;
      running = tf.tidy(() => {
        const { maximum, total, weighted } = before;
        const bias = tileBias(inputs.bias, queryBlock, keyBlock);
        const { scores } = tileScores(queryRows, rows(key, keyBlock), terms, { slopes, bias, softCap: attributes.softCap });
        const top = tf.maximum(maximum, tf.max(scores, -1, true)); // [B, H, tq, 1]
        const weights = tf.exp(tf.sub(scores, top)); // [B, H, tq, sk]
        const sum = tf.sum(weights, -1, true);
        const read = tf.reshape(tf.matMul(groupHeads(weights, G), rows(value, keyBlock)), [B, H, tq, Dv]);
        const fade = weighted || sink ? tf.exp(tf.sub(maximum, top)) : undefined;
        return {
          maximum: top,
          total: fade ? tf.add(tf.mul(total, fade), sum) : sum,
          weighted: weighted ? tf.add(tf.mul(weighted, fade!), read) : read,
        };
      });
      tf.dispose(before);
      tiles.release(terms);
    });
    const { maximum, total, weighted } = running;
    // an empty row has total 0 and weighted 0; the least normal number keeps its quotient at 0
    outputs.push(weighted ? tf.tidy(() => tf.div(weighted, tf.maximum(total, 1.2e-38))) : tf.zeros([B, H, tq, Dv]));
    // ln 0 = -Infinity is what an empty row has to say
    sums.push(tf.tidy(() => tf.add(maximum, tf.log(total))));
    tf.dispose(running);
    if (queryRows !== query) queryRows.dispose();
  });
  const join = (parts: tf.Tensor[]): tf.Tensor => (parts.length === 1 ? parts[0]! : tf.concat(parts, 2));
  return { output: swapTimeAndHeads(join(outputs)), logSumExp: tf.reshape(swapTimeAndHeads(join(sums)), [B, T, H]) };
}
