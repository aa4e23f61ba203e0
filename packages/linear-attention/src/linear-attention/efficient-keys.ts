import * as tf from '@tensorflow/tfjs-core';

/** Stands for the log of 0 without being infinite. */
export const EMPTY_LOG = -1e30;

/** Keys of the causal `efficient` map: a running softmax over the sequence, as a gated recurrence. */
export interface RunningSoftmax {
  /** exp(k_t - z_t), [B, T, H, F] */
  readonly key: tf.Tensor4D;
  /** z_{t-1} - z_t, at most 0, [B, T, H, F] */
  readonly logDecay: tf.Tensor4D;
  /** z after the last token, [B, H, F] */
  readonly logNormaliser: tf.Tensor3D;
}

// log(exp(a) + exp(b)) without overflow
function logAdd(a: tf.Tensor, b: tf.Tensor): tf.Tensor {
  return tf.add(tf.maximum(a, b), tf.log1p(tf.exp(tf.neg(tf.abs(tf.sub(a, b))))));
}

/**
 * `z_t = log(sum over j <= t of exp(k_j))` per feature, by doubling: log2(T) rounds, no overflow.
 *
 * @param key raw keys [B, T, H, F]; masked tokens hold `EMPTY_LOG`
 * @param before z of the tokens before, [B, H, F]; absent: there are none
 */
export function runningSoftmax(key: tf.Tensor4D, before?: tf.Tensor): RunningSoftmax {
  return tf.tidy(() => {
    const [batch, length, heads, features] = key.shape;
    const one: [number, number, number, number] = [batch, 1, heads, features];
    const start = before ? tf.reshape(before, one) : tf.add(tf.zeros(one), EMPTY_LOG);
    let sums = tf.concat([start, key], 1); // [B, 1 + T, H, F]
    for (let reach = 1; reach <= length; reach *= 2) {
      const kept = tf.slice(sums, [0, 0, 0, 0], [batch, reach, heads, features]);
      const later = tf.slice(sums, [0, reach, 0, 0], [batch, length + 1 - reach, heads, features]);
      const earlier = tf.slice(sums, [0, 0, 0, 0], [batch, length + 1 - reach, heads, features]);
      sums = tf.concat([kept, logAdd(later, earlier)], 1);
    }
    const through = tf.slice(sums, [0, 1, 0, 0], [batch, length, heads, features]) as tf.Tensor4D;
    const until = tf.slice(sums, [0, 0, 0, 0], [batch, length, heads, features]);
    return {
      key: tf.exp(tf.minimum(tf.sub(key, through), 0)) as tf.Tensor4D,
      logDecay: tf.minimum(tf.sub(until, through), 0) as tf.Tensor4D,
      logNormaliser: tf.reshape(tf.slice(sums, [0, length, 0, 0], [batch, 1, heads, features]), [batch, heads, features]) as tf.Tensor3D,
    };
  });
}
