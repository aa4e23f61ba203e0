import * as tf from '@tensorflow/tfjs-core';
import { checkTensor } from '../kernel/check-tensor.ts';

/**
 * Cosine and sine of 2 pi times the turns, good to 3e-7 on every backend: WebGPU's own are only promised to 2^-11.
 *
 * With y half the angle, in [-pi / 2, pi / 2]: `1 - y^2 / 2 (1 - y^2 / 12 (...))` is cos y, `1 - y^2 / 6 (1 - y^2 / 20 (...))` is sin y / y,
 * both summed at once, innermost first; then `cos 2y = 1 - 2 sin^2 y` and `sin 2y = 2 sin y cos y`.
 *
 * @param turns float32 tensor of any shape, in turns (1 is 2 pi radians); gradients flow to it
 * @returns cos and sin, of that shape, owned by the caller
 * @throws SeqLoomError when the turns are not a float32 tensor
 */
export function circlePoint(turns: tf.Tensor): { cos: tf.Tensor; sin: tf.Tensor } {
  checkTensor('circle-point', 'turns', turns, turns instanceof tf.Tensor ? turns.shape : []);
  return tf.tidy(() => {
    const half = tf.mul(tf.sub(turns, tf.floor(tf.add(turns, 0.5))), Math.PI);
    const square = tf.mul(half, half);
    const both = [2, ...turns.shape.map(() => 1)];
    let sums: tf.Tensor = tf.ones(both);
    for (let k = 7; k >= 1; k--) {
      const factors = tf.tensor([1 / ((2 * k - 1) * 2 * k), 1 / (2 * k * (2 * k + 1))], both);
      sums = tf.sub(1, tf.mul(tf.mul(square, factors), sums));
    }
    const [cosine, ratio] = tf.unstack(sums, 0) as [tf.Tensor, tf.Tensor];
    const sine = tf.mul(half, ratio);
    return { cos: tf.sub(1, tf.mul(tf.mul(sine, sine), 2)), sin: tf.mul(tf.mul(sine, cosine), 2) };
  });
}

/**
 * Turns of position × frequency with whole ones dropped, `p θ / 2π mod 1` up to a whole turn, for `circlePoint`.
 *
 * Positions are split into 1024 a + b and the turns of both parts are reduced before they are added, since a float32 product of
 * position and frequency would lose its fraction; good to 3e-7 turns.
 *
 * @param positions whole numbers below 2^22, of any shape
 * @param frequencies R angles per position, in radians
 * @returns turns [..., R], the shape of the positions with one more axis, owned by the caller
 */
export function turnsAt(positions: tf.Tensor, frequencies: Float64Array): tf.Tensor {
  return tf.tidy(() => {
    const position = tf.reshape(tf.cast(positions, 'float32'), [...positions.shape, 1]);
    const coarse = tf.floor(tf.div(position, 1024));
    const fine = tf.sub(position, tf.mul(coarse, 1024));
    return tf.add(reducedTurns(coarse, frequencies, 1024), reducedTurns(fine, frequencies, 1));
  });
}

/** Turns of count × unit × frequency, whole ones dropped; exact to a few 1e-8 for counts below 2^12. */
function reducedTurns(count: tf.Tensor, frequencies: Float64Array, unit: number): tf.Tensor {
  const perCount = frequencies.map((theta) => {
    const turns = (theta * unit) / (2 * Math.PI);
    return turns - Math.floor(turns);
  });
  // 12 bits of turns times 12 bits of count is exact in float32's 24; the rest is too small to matter twice
  const high = perCount.map((turns) => Math.floor(turns * 4096) / 4096);
  const low = perCount.map((turns, r) => turns - high[r]!);
  const product = tf.mul(count, tf.tensor1d(Float32Array.from(high)));
  return tf.add(tf.sub(product, tf.floor(product)), tf.mul(count, tf.tensor1d(Float32Array.from(low))));
}
