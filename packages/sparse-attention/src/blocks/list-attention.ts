import * as tf from '@tensorflow/tfjs-core';
import { blockAttentionKernel, softmaxAttention, tidy } from '@seqloom/core';
import type { PartialAttention } from '@seqloom/core';

/** Query, key and value heads of a sequence. */
export interface Heads {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, G, D]; G divides H */
  readonly key: tf.Tensor;
  /** [B, S, G, Dv] */
  readonly value: tf.Tensor;
}

/**
 * Attention of each query to whole blocks of its own list, on the `BlockAttention` kernel.
 *
 * @param heads query, key, value
 * @param blocks whole numbers in float32 [B, R, T, K], -1 for none, with R = G (one list per key head) or R = H (one per query head)
 * @param settings `keyBlock` tokens, and `scale`
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H]; 0 and -Infinity for an empty list
 */
export function listAttention(
  { query, key, value }: Heads,
  blocks: tf.Tensor,
  settings: { readonly keyBlock: number; readonly scale: number },
): PartialAttention {
  const [batch, length, heads, width] = query.shape as [number, number, number, number];
  const groups = key.shape[2]!;
  const many = blocks.shape[3]!;
  const share = heads / groups;
  const together = blocks.shape[1] === groups;
  // query heads with one list are rows of one block, so that they are multiplied with its keys at once
  const attributes = { causal: false, ...settings, queryBlock: together ? share : 1 };
  if (share === 1) return blockAttentionKernel.run({ query, key, value, blocks: tf.cast(blocks, 'int32') }, attributes);
  return tidy(() => {
    // the query heads of a group become queries of their own: [B, T r, G, D]
    const apart = tf.transpose(tf.reshape(query, [batch, length, groups, share, width]), [0, 1, 3, 2, 4]);
    const lists = together
      ? blocks
      : tf.reshape(tf.transpose(tf.reshape(blocks, [batch, groups, share, length, many]), [0, 1, 3, 2, 4]), [
          batch,
          groups,
          length * share,
          many,
        ]);
    const result = blockAttentionKernel.run(
      { query: tf.reshape(apart, [batch, length * share, groups, width]), key, value, blocks: tf.cast(lists, 'int32') },
      attributes,
    );
    const back = (x: tf.Tensor, channels: number): tf.Tensor =>
      tf.transpose(tf.reshape(x, [batch, length, share, groups, channels]), [0, 1, 3, 2, 4]);
    const valueDim = value.shape[3]!;
    return {
      output: tf.reshape(back(result.output, valueDim), [batch, length, heads, valueDim]),
      logSumExp: tf.reshape(back(result.logSumExp, 1), [batch, length, heads]),
    };
  });
}

/**
 * Causal attention inside each block of a sequence that starts with a block, on the `SoftmaxAttention` kernel.
 *
 * @param heads query, key, value of the same T tokens
 * @param settings `block` tokens, `scale`, and `hideLast`: nobody reads the last token of a block, itself included
 * @returns output [B, T, H, Dv] and logSumExp [B, T, H]
 */
export function insideBlocks(
  heads: Heads,
  settings: { readonly block: number; readonly scale: number; readonly hideLast?: boolean },
): PartialAttention {
  const { block, scale, hideLast = false } = settings;
  const [batch, length] = heads.query.shape as [number, number];
  const whole = { causal: true, aligned: true, scale };
  if (length < block || (length === block && !hideLast)) return softmaxAttention(heads, whole);
  return tidy(() => {
    const count = Math.ceil(length / block);
    const last = tf.fill([batch * count, 1], -1);
    const first = tf.add(tf.zeros([batch * count, 1]), tf.range(0, block - 1, 1, 'float32'));
    // filling stands behind the last token, where causality hides it
    const apart = (x: tf.Tensor): tf.Tensor => tf.reshape(fillTime(x, count * block), [batch * count, block, x.shape[2]!, x.shape[3]!]);
    const { output, logSumExp } = softmaxAttention(
      {
        query: apart(heads.query),
        key: apart(heads.key),
        value: apart(heads.value),
        ...(hideLast ? { keyPositions: tf.concat([first, last], 1) } : {}),
      },
      whole,
    );
    const together = (x: tf.Tensor): tf.Tensor => {
      const [, , ...rest] = x.shape as [number, number, ...number[]];
      const all = tf.reshape(x, [batch, count * block, ...rest]);
      return tf.slice(
        all,
        all.shape.map(() => 0),
        [batch, length, ...rest],
      );
    };
    return { output: together(output), logSumExp: together(logSumExp) };
  });
}

/** Adds zeros behind the T tokens of [B, T, H, D] up to `total`. */
export function fillTime(x: tf.Tensor, total: number): tf.Tensor {
  const [batch, length, heads, width] = x.shape as [number, number, number, number];
  return length === total ? x : tf.concat([x, tf.zeros([batch, total - length, heads, width])], 1);
}
