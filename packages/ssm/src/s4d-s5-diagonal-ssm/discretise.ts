import * as tf from '@tensorflow/tfjs-core';
import { angleOf, cosine, expMinusOne, sine } from '../elementary.ts';
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
    // exp(z) - 1 = (expm1(re) cos(im) - 2 sin^2(im / 2)) + i exp(re) sin(im), without its cancellation at small steps
    const real = tf.sub(tf.mul(expMinusOne(re), cosine(im)), tf.mul(tf.square(sine(tf.div(im, 2))), 2));
    const imaginary = tf.mul(tf.exp(re), sine(im));
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
    logDecay: logRatio(a, b, below),
    phase: angleOf(tf.mul(b, 2), tf.sub(1, squares)),
    factor: [tf.div(tf.mul(step, tf.sub(1, a)), below), tf.div(tf.mul(step, b), below)],
  };
}

// log |1 + z / 2| - log |1 - z / 2| for z / 2 = a + i b: the series of atanh where it is small, where a difference of logarithms would cancel
function logRatio(a: tf.Tensor, b: tf.Tensor, below: tf.Tensor): tf.Tensor {
  const ratio = tf.div(tf.mul(a, 2), tf.add(tf.add(tf.square(a), tf.square(b)), 1));
  const square = tf.square(ratio);
  const series = [1 / 7, 1 / 5, 1 / 3, 1].reduce<tf.Tensor>((sum, term) => tf.add(tf.mul(sum, square), term), tf.fill(ratio.shape, 1 / 9));
  // an exact zero, of a pole at -2 / step, decays by 1e-15 instead
  const above = tf.maximum(tf.add(tf.square(tf.add(a, 1)), tf.square(b)), 1e-30);
  const difference = tf.mul(tf.sub(tf.log(above), tf.log(below)), 0.5);
  return tf.where(tf.greater(ratio, -0.25), tf.mul(ratio, series), difference);
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
  return [tf.mul(size, cosine(angle)), tf.mul(size, sine(angle))];
}
