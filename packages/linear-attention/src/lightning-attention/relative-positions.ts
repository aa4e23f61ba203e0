import { circlePoint } from '@seqloom/core';
import type { Initialiser } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/** Angles per position at the start, [H, K]: one ladder over all heads, `10000^(-2 (h K + j) / (H K))`. */
export const firstAngles: Initialiser = ([heads, width]) =>
  Float32Array.from({ length: heads! * width! }, (_, place) => 10000 ** ((-2 * place) / (heads! * width!)));

/**
 * LRPE with learned angles, `[x cos(n theta), x sin(n theta)]`, so that `q_n . k_m` is `sum of q_j k_j cos((n - m) theta_j)`.
 *
 * @param rows queries and keys [B, T, H, K]
 * @param angles theta per position, in radians [H, K]; gradients flow to it
 * @param start positions of the first tokens, whole numbers [B]
 * @returns rows of twice the width [B, T, H, 2 K]
 */
export function relativePositions(rows: readonly tf.Tensor[], angles: tf.Tensor, start: tf.Tensor): tf.Tensor[] {
  return tf.tidy(() => {
    const [batch, length] = rows[0]!.shape as [number, number];
    const positions = tf.add(tf.reshape(start, [batch, 1, 1, 1]), tf.reshape(tf.range(0, length), [1, length, 1, 1]));
    const { cos, sin } = circlePoint(learnedTurns(positions, tf.div(angles, 2 * Math.PI)));
    return rows.map((x) => tf.concat([tf.mul(x, cos), tf.mul(x, sin)], 3));
  });
}

// positions 1024 a + b, and turns in 12 bits and the rest: products of 12 bits are exact, so that no fraction is lost
function learnedTurns(positions: tf.Tensor, turns: tf.Tensor): tf.Tensor {
  const coarse = tf.floor(tf.div(positions, 1024));
  const fine = tf.sub(positions, tf.mul(coarse, 1024));
  const times = (count: tf.Tensor, unit: number): tf.Tensor => {
    const whole = tf.mul(turns, unit);
    const per = tf.sub(whole, tf.floor(whole));
    const high = tf.div(tf.floor(tf.mul(per, 4096)), 4096);
    const product = tf.mul(count, high);
    return tf.add(tf.sub(product, tf.floor(product)), tf.mul(count, tf.sub(per, high)));
  };
  return tf.add(times(coarse, 1024), times(fine, 1));
}
