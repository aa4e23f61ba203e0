import * as tf from '@tensorflow/tfjs-core';

/** A softmax over some tokens: the largest logit, and sums relative to it. */
export interface Partial {
  /** m, [B, T, H, 1] */
  readonly maximum: tf.Tensor;
  /** w and u as its last channel, [B, T, H, V + 1] */
  readonly sums: tf.Tensor;
}

/** What every form works on. */
export interface Leaves {
  /** s, [B, T, H, 1]; `EMPTY_LOGIT` at padding */
  readonly logits: tf.Tensor;
  /** v with a 1 as last channel, zeros at padding, [B, T, H, V + 1] */
  readonly values: tf.Tensor;
  /** what the tokens before came to, T = 1; a maximum of `EMPTY_LOGIT` where there were none */
  readonly before: Partial;
}

/** Stands for the logit of no token, without being infinite. */
export const EMPTY_LOGIT = -1e30;

/** The softmax over two disjoint sets of tokens from those over each; associative and commutative. */
function combine(a: Partial, b: Partial): Partial {
  const maximum = tf.maximum(a.maximum, b.maximum);
  const weigh = (part: Partial): tf.Tensor => tf.mul(part.sums, tf.exp(tf.sub(part.maximum, maximum)));
  return { maximum, sums: tf.add(weigh(a), weigh(b)) };
}

/**
 * The parallel form: a prefix scan of `combine` by doubling, in log2(T) rounds, as in the paper.
 *
 * @returns the softmax over the tokens so far, at every token
 */
export function parallelForm({ logits, values, before }: Leaves): Partial {
  let [maximum, sums] = [tf.concat([before.maximum, logits], 1), tf.concat([before.sums, values], 1)];
  const total = maximum.shape[1]!;
  const cut = (from: number, size: number): Partial => {
    const part = (tensor: tf.Tensor): tf.Tensor => tf.slice(tensor, [0, from, 0, 0], [-1, size, -1, -1]);
    return { maximum: part(maximum), sums: part(sums) };
  };
  for (let reach = 1; reach < total; reach *= 2) {
    const [done, merged] = [cut(0, reach), combine(cut(0, total - reach), cut(reach, total - reach))];
    [maximum, sums] = [tf.concat([done.maximum, merged.maximum], 1), tf.concat([done.sums, merged.sums], 1)];
  }
  return cut(1, total - 1);
}
