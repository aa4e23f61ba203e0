import * as tf from '@tensorflow/tfjs-core';
import { mergeAttention, stopGradient } from '@seqloom/core';
import { insideBlocks, listAttention } from '../blocks/list-attention.ts';
import type { Heads } from '../blocks/list-attention.ts';
import { earlierBlocks, groupedScores, selectBlocks } from '../blocks/selection.ts';
import type { MobaOptions } from './moba.ts';

/** The chunk form: attention inside every block, attention of each query to the earlier blocks that it chose, and their merger. */
export function chunkForm(heads: Heads, { blockSize, topK, scale }: Required<MobaOptions>): tf.Tensor4D {
  const { query, key } = heads;
  const [batch, length, groups, width] = key.shape as [number, number, number, number];
  const own = insideBlocks(heads, { block: blockSize, scale: scale! });
  // the last block is nobody's earlier block
  const earlier = Math.ceil(length / blockSize) - 1;
  if (earlier === 0 || topK === 1) return own.output as tf.Tensor4D;
  const whole = tf.slice(stopGradient(key), [0, 0, 0, 0], [batch, earlier * blockSize, groups, width]);
  const means = tf.mean(tf.reshape(whole, [batch, earlier, blockSize, groups * width]), 2);
  const gates = groupedScores(stopGradient(query), tf.reshape(means, [batch, earlier, groups, width])); // [B, H, T, N]
  const block = tf.floor(tf.div(tf.range(0, length, 1, 'float32'), blockSize));
  const blocks = selectBlocks(gates, { visible: earlierBlocks(block, earlier), count: topK - 1 }); // [B, H, T, k - 1]
  return mergeAttention([own, listAttention(heads, blocks, { keyBlock: blockSize, scale: scale! })]).output as tf.Tensor4D;
}
