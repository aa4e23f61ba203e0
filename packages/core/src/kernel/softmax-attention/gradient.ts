import * as tf from '@tensorflow/tfjs-core';
import type { NamedTensors } from '../define.ts';
import type { SoftmaxAttentionAttributes, SoftmaxAttentionInputs } from '../softmax-attention.ts';
import { groupHeads, rows, swapTimeAndHeads, tileBias, tileScores } from './forward.ts';
import { FLOOR, planTiles } from './tiles.ts';

type Gradients = { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor; bias?: tf.Tensor; sinkLogits?: tf.Tensor; slopes?: tf.Tensor };

/** Adds a term to a running sum and frees both; the sum starts at null. */
function accumulate(sum: tf.Tensor | null, term: tf.Tensor): tf.Tensor {
  if (!sum) return term;
  const next = tf.add(sum, term);
  tf.dispose([sum, term]);
  return next;
}

/**
 * Gradient by recomputation: p = e^(s - logSumExp) tile by tile, ds = p (dO·v - delta) with delta = dO·O - dlogSumExp.
 *
 * dq = scale ds k, dk = scale ds^T q, dv = p^T dO, dbias = ds, dslope = -sum ds distance, dsink = -sum e^(sink - logSumExp) delta.
 * Runs inside a tidy.
 */
export function attentionGradient(
  inputs: SoftmaxAttentionInputs,
  saved: NamedTensors<'output' | 'logSumExp'>,
  upstream: NamedTensors<'output' | 'logSumExp'>,
  attributes: SoftmaxAttentionAttributes,
): Gradients {
  const [B, T, H, D] = inputs.query.shape as [number, number, number, number];
  const [, , G, Dv] = inputs.value.shape as [number, number, number, number];
  const tiles = planTiles(inputs, attributes);
  const query = swapTimeAndHeads(tf.mul(inputs.query, attributes.scale)); // [B, H, T, D]
  const key = swapTimeAndHeads(inputs.key); // [B, G, S, D]
  const value = swapTimeAndHeads(inputs.value); // [B, G, S, Dv]
  const dOutput = swapTimeAndHeads(upstream.output); // [B, H, T, Dv]
  const perRow = (x: tf.Tensor): tf.Tensor => swapTimeAndHeads(tf.reshape(x, [B, T, H, 1])); // [B, H, T, 1]
  // an empty row's -Infinity would meet hidden scores; at the floor its weights are exactly 0
  const logSumExp = tf.maximum(perRow(saved.logSumExp), FLOOR);
  const delta = tf.sub(perRow(tf.sum(tf.mul(upstream.output, saved.output), -1)), perRow(upstream.logSumExp));
  const slopes = inputs.slopes ? tf.reshape(inputs.slopes, [1, H, 1, 1]) : null;
  const biasSums = inputs.bias ? ([inputs.bias.shape[0] === 1, inputs.bias.shape[1] === 1] as const) : null;

  const dKeys: (tf.Tensor | null)[] = tiles.keyBlocks.map(() => null);
  const dValues: (tf.Tensor | null)[] = tiles.keyBlocks.map(() => null);
  const dQueries: tf.Tensor[] = [];
  const dBiasRows: tf.Tensor[] = [];
  let dSlopes: tf.Tensor | null = null;
  tiles.queryBlocks.forEach((queryBlock, i) => {
    const tq = queryBlock[1];
    const dBiasTiles: tf.Tensor[] = [];
    let dQuery: tf.Tensor | null = null;
    const block = {
      query: rows(query, queryBlock),
      dOutput: rows(dOutput, queryBlock),
      logSumExp: rows(logSumExp, queryBlock),
      delta: rows(delta, queryBlock),
    };
    tiles.keyBlocks.forEach((keyBlock, j) => {
      const sk = keyBlock[1];
      const terms = tiles.terms(i, j);
      if (terms === 'none') {
        if (inputs.bias) dBiasTiles.push(tf.zeros([inputs.bias.shape[0]!, inputs.bias.shape[1]!, tq, sk]));
        return;
      }
      const tile = tf.tidy(() => {
        const keyRows = rows(key, keyBlock);
        const bias = tileBias(inputs.bias, queryBlock, keyBlock);
        const { scores, squashed } = tileScores(block.query, keyRows, terms, { slopes, bias, softCap: attributes.softCap });
        const weights = tf.exp(tf.sub(scores, block.logSumExp)); // [B, H, tq, sk]
        const groupedOutput = groupHeads(block.dOutput, G);
        const dWeights = tf.reshape(tf.matMul(groupedOutput, rows(value, keyBlock), false, true), [B, H, tq, sk]);
        const dScores = tf.mul(weights, tf.sub(dWeights, block.delta));
        const dProducts = groupHeads(squashed ? tf.mul(dScores, tf.sub(1, tf.square(squashed))) : dScores, G);
        return {
          value: tf.matMul(groupHeads(weights, G), groupedOutput, true, false), // [B, G, sk, Dv]
          key: tf.matMul(dProducts, groupHeads(block.query, G), true, false), // [B, G, sk, D]
          query: tf.reshape(tf.matMul(dProducts, keyRows), [B, H, tq, D]),
          slopes: slopes ? tf.neg(tf.sum(tf.mul(dScores, terms.distance!), [0, 2, 3])) : undefined,
          bias: biasSums ? sumOver(dScores, biasSums[0], biasSums[1]) : undefined,
        };
      });
      tiles.release(terms);
      dValues[j] = accumulate(dValues[j]!, tile.value);
      dKeys[j] = accumulate(dKeys[j]!, tile.key);
      dQuery = accumulate(dQuery, tile.query);
      if (tile.slopes) dSlopes = accumulate(dSlopes, tile.slopes);
      if (tile.bias) dBiasTiles.push(tile.bias);
    });
    if (tiles.queryBlocks.length > 1) tf.dispose(block);
    dQueries.push(dQuery ?? tf.zeros([B, H, tq, D]));
    if (inputs.bias) dBiasRows.push(join(dBiasTiles, 3));
  });
  const perKeyBlock = (parts: (tf.Tensor | null)[], width: number): tf.Tensor =>
    swapTimeAndHeads(
      join(
        parts.map((part, j) => part ?? tf.zeros([B, G, tiles.keyBlocks[j]![1], width])),
        2,
      ),
    );
  const gradients: Gradients = {
    query: tf.mul(swapTimeAndHeads(join(dQueries, 2)), attributes.scale),
    key: perKeyBlock(dKeys, D),
    value: perKeyBlock(dValues, Dv),
  };
  if (inputs.bias) gradients.bias = join(dBiasRows, 2);
  if (inputs.slopes) gradients.slopes = dSlopes ?? tf.zeros([H]);
  if (inputs.sinkLogits) {
    const weights = tf.exp(tf.sub(tf.reshape(inputs.sinkLogits, [1, H, 1, 1]), logSumExp)); // [B, H, T, 1]
    gradients.sinkLogits = tf.neg(tf.sum(tf.mul(weights, delta), [0, 2, 3]));
  }
  return gradients;
}

function join(parts: tf.Tensor[], axis: number): tf.Tensor {
  return parts.length === 1 ? parts[0]! : tf.concat(parts, axis);
}

/** Sums over rows and heads where the bias is shared by them, keeping the axes. */
function sumOver(x: tf.Tensor, rowsShared: boolean, headsShared: boolean): tf.Tensor {
  const axes = [...(rowsShared ? [0] : []), ...(headsShared ? [1] : [])];
  return axes.length ? tf.sum(x, axes, true) : x;
}
