import { logSigmoid } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';

/** Log of a forget gate f, and 1 - f, which the gate lets in. */
export interface ForgetGate {
  readonly logDecay: tf.Tensor;
  readonly write: tf.Tensor;
}

/**
 * The forget gate above a lower bound, `f = gamma + (1 - gamma) sigmoid(z)`, as its logarithm and its complement.
 *
 * Gates close to 1 keep the digits of 1 - f, which decide how long they remember: what rounding f lost is known from 1 - f, and comes back as
 * a first-order term of the logarithm.
 *
 * @param logits z, float32 [..., C]
 * @param bound gamma, float32 [C], at least 0 and below 1; null: none
 */
export function forgetGate(logits: tf.Tensor, bound: tf.Tensor | null): ForgetGate {
  return tf.tidy(() => {
    const closed = tf.sigmoid(tf.neg(logits));
    if (!bound) return { logDecay: logSigmoid(logits), write: closed };
    // a softmax may round to 0 or 1, where the logarithm has no gradient
    const gamma = tf.clipByValue(bound, 1e-30, 1 - 1e-7);
    const rest = tf.sub(1, gamma);
    const write = tf.mul(rest, closed);
    const gate = tf.add(gamma, tf.mul(rest, tf.sigmoid(logits)));
    // from one half on 1 - gate is exact
    const upper = tf.cast(tf.greaterEqual(gate, 0.5), 'float32');
    const lost = tf.div(tf.mul(tf.sub(tf.sub(1, gate), write), upper), gate);
    return { logDecay: tf.minimum(tf.add(tf.log(gate), lost), 0), write };
  }) as ForgetGate;
}
