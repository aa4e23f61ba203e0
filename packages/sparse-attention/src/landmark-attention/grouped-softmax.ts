import * as tf from '@tensorflow/tfjs-core';
import { tidy } from '@seqloom/core';
import type { PartialAttention } from '@seqloom/core';

/**
 * The outer softmax of landmark attention: over the own tokens, which enter with their log-sum-exp, and one landmark logit per block,
 * which stands for the block's own softmax.
 *
 * @param own attention to the ordinary tokens of the own block, output [B, T, H, Dv] and logSumExp [B, T, H]
 * @param blocks attention to the ordinary tokens of each block, [B, P, T, H, Dv]
 * @param logits of the landmarks, [B, P, T, H]; far below all others where a block is not used
 * @returns [B, T, H, Dv]
 */
export function groupedSoftmax(own: PartialAttention, blocks: tf.Tensor, logits: tf.Tensor): tf.Tensor4D {
  return tidy(() => {
    const [batch, count, length, heads, width] = blocks.shape as [number, number, number, number, number];
    const all = tf.concat([tf.expandDims(own.logSumExp, 1), logits], 1); // [B, P + 1, T, H]
    const weights = tf.transpose(tf.softmax(tf.transpose(all, [0, 2, 3, 1])), [0, 3, 1, 2]);
    const rows = length * heads;
    const outputs = tf.concat([tf.reshape(own.output, [batch, 1, rows * width]), tf.reshape(blocks, [batch, count, rows * width])], 1);
    // flat rows: tfjs-webgpu broadcasts at most four axes
    const weighted = tf.mul(tf.reshape(outputs, [batch, count + 1, rows, width]), tf.reshape(weights, [batch, count + 1, rows, 1]));
    return tf.reshape(tf.sum(weighted, 1), [batch, length, heads, width]);
  });
}
