import * as tf from '@tensorflow/tfjs-core';
import type { Parts } from '../parallel-scan/complex.ts';
import type { Discretisation } from './naive.ts';

/** A discrete diagonal system: `x_t = exp(logDecay + i phase) x_{t-1} + factor B u_t`. */
export type Discrete = {
  /** log of the magnitude of Abar, at most 0 */
  readonly logDecay: tf.Tensor;
  /** angle of Abar in radians */
  readonly phase: tf.Tensor;
  /** [real, imaginary] of what multiplies B */
  readonly factor: Parts;
};

/**
 * Turns poles and steps into a recurrence, by zero-order hold or by the bilinear map.
 *
 * The decay stays in polar form, so that its powers are exact for slow poles: exp(l log a), never a rounded a to the power of l.
 *
 * @param poleReal real part of A, below 0
 * @param poleImaginary imaginary part, the same shape
 * @param step Delta, of a shape that broadcasts with the poles
 */
export function discretise(poleReal: tf.Tensor, poleImaginary: tf.Tensor, step: tf.Tensor, method: Discretisation): Discrete {
  const [re, im] = [tf.mul(poleReal, step), tf.mul(poleImaginary, step)];
  if (method === 'zoh') {
    const size = tf.exp(re);
    // exp(z) - 1 = (expm1(re) cos(im) - 2 sin^2(im / 2)) + i exp(re) sin(im), without its cancellation at small steps
    const grown = tf.mul(tf.tanh(tf.div(re, 2)), tf.add(size, 1));
    const real = tf.sub(tf.mul(grown, tf.cos(im)), tf.mul(tf.square(tf.sin(tf.div(im, 2))), 2));
    const imaginary = tf.mul(size, tf.sin(im));
    const square = tf.add(tf.square(poleReal), tf.square(poleImaginary));
    return {
      logDecay: re,
      phase: im,
      factor: [
        tf.div(tf.add(tf.mul(real, poleReal), tf.mul(imaginary, poleImaginary)), square),
        tf.div(tf.sub(tf.mul(imaginary, poleReal), tf.mul(real, poleImaginary)), square),
      ],
    };
  }
  const [a, b] = [tf.div(re, 2), tf.div(im, 2)];
  const squares = tf.add(tf.square(a), tf.square(b));
  const below = tf.add(tf.square(tf.sub(1, a)), tf.square(b)); // |1 - z / 2|^2
  return {
    // log |1 + z / 2| - log |1 - z / 2|
    logDecay: tf.mul(logOnePlus(tf.div(tf.mul(a, 4), below)), 0.5),
    phase: tf.atan2(tf.mul(b, 2), tf.sub(1, squares)),
    factor: [tf.div(tf.mul(step, tf.sub(1, a)), below), tf.div(tf.mul(step, b), below)],
  };
}

// log(1 + x) to full precision: what rounding 1 + x lost comes back as a first-order term
function logOnePlus(x: tf.Tensor): tf.Tensor {
  const one = tf.add(x, 1);
  return tf.add(tf.log(one), tf.div(tf.sub(x, tf.sub(one, 1)), one));
}

/**
 * Powers `exp(e (logDecay + i phase))` as [real, imaginary], one new last axis for the exponents.
 *
 * @param exponents [L]
 * @returns two tensors [..., L]
 */
export function powers({ logDecay, phase }: Discrete, exponents: tf.Tensor): [tf.Tensor, tf.Tensor] {
  const column = (part: tf.Tensor): tf.Tensor => tf.mul(tf.reshape(part, [...part.shape, 1]), exponents);
  const size = tf.exp(column(logDecay));
  const angle = column(phase);
  // sine and cosine are at their best near zero
  const small = tf.sub(angle, tf.mul(tf.round(tf.div(angle, 2 * Math.PI)), 2 * Math.PI));
  return [tf.mul(size, tf.cos(small)), tf.mul(size, tf.sin(small))];
}
