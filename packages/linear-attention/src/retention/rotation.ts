import * as tf from '@tensorflow/tfjs-core';

/** Cosines and sines for the `rotary` kernel, [1 or B, T, K / 2]. */
export interface RotationAngles {
  readonly cos: tf.Tensor;
  readonly sin: tf.Tensor;
}

/** How pairs of channels are chosen, and how fast each of them turns: as torchscale or as flash-linear-attention does it. */
export type RotationStyle = 'torchscale' | 'fla';

/**
 * The angle per token of each pair of channels.
 *
 * torchscale: `base^(-r / (K / 2 - 1))`, both ends included; fla: `base^(-2 r / K)`, the usual rotary ladder.
 *
 * @param width channels K of a head, even
 * @returns K / 2 angles in radians
 */
export function rotationFrequencies(width: number, style: RotationStyle, base = 10000): Float64Array {
  const pairs = width / 2;
  const steps = style === 'torchscale' ? Math.max(1, pairs - 1) : pairs;
  return Float64Array.from({ length: pairs }, (_, r) => base ** (-r / steps));
}

/**
 * Angles of the tokens of a piece, whose rows stand at positions of their own.
 *
 * The angle of a row's first token is computed from its position on the device; those of the tokens after it are that angle plus one
 * from a table, by the addition theorems, so that no float32 product of a large position ever rounds away its fraction.
 *
 * @param position [B], whole numbers up to 2^22
 * @param length tokens of the piece
 * @param frequencies of `rotationFrequencies`
 */
export function rotationAngles(position: tf.Tensor, length: number, frequencies: Float64Array): RotationAngles {
  return tf.tidy(() => {
    const batch = position.shape[0]!;
    const pairs = frequencies.length;
    const turns = turnsAt(tf.reshape(position, [batch, 1]), frequencies);
    const first = circlePoint(tf.reshape(turns, [batch, 1, pairs]));
    if (length === 1) return { cos: first.cos, sin: first.sin };
    const table = (value: (angle: number) => number): tf.Tensor =>
      tf.tensor3d(
        Float32Array.from({ length: length * pairs }, (_, i) => value(Math.floor(i / pairs) * frequencies[i % pairs]!)),
        [1, length, pairs],
      );
    const [cos, sin] = [table(Math.cos), table(Math.sin)];
    return {
      cos: tf.sub(tf.mul(first.cos, cos), tf.mul(first.sin, sin)),
      sin: tf.add(tf.mul(first.sin, cos), tf.mul(first.cos, sin)),
    };
  });
}

// turns of position times frequency with whole ones dropped, [B, 1] -> [B, pairs]
function turnsAt(position: tf.Tensor, frequencies: Float64Array): tf.Tensor {
  const coarse = tf.floor(tf.div(position, 2048));
  const fine = tf.sub(position, tf.mul(coarse, 2048));
  const part = (count: tf.Tensor, unit: number): tf.Tensor => {
    const perCount = frequencies.map((theta) => ((theta * unit) / (2 * Math.PI)) % 1);
    // eleven bits of count times twelve of turns are exact in float32; what is left is too small to matter twice
    const high = perCount.map((turns) => Math.floor(turns * 4096) / 4096);
    const low = perCount.map((turns, r) => turns - high[r]!);
    const exact = tf.mul(count, tf.tensor1d(Float32Array.from(high)));
    return tf.add(tf.sub(exact, tf.floor(exact)), tf.mul(count, tf.tensor1d(Float32Array.from(low))));
  };
  return tf.add(part(coarse, 2048), part(fine, 1));
}

/**
 * Cosine and sine of 2 pi times the turns, good to 3e-7: a GPU's own need not be.
 *
 * With y half the angle, in [-pi / 2, pi / 2]: `1 - y^2 / 2 (1 - y^2 / 12 (...))` is cos y, `1 - y^2 / 6 (1 - y^2 / 20 (...))` is sin y / y,
 * both summed at once, innermost first; then cos 2y = 1 - 2 sin^2 y and sin 2y = 2 sin y cos y.
 *
 * @param turns of rank 3; gradients flow to it
 */
export function circlePoint(turns: tf.Tensor): RotationAngles {
  const half = tf.mul(tf.sub(turns, tf.floor(tf.add(turns, 0.5))), Math.PI);
  const square = tf.mul(half, half);
  let sums: tf.Tensor = tf.ones([2, 1, 1, 1]);
  for (let k = 7; k >= 1; k--) {
    const factors = tf.tensor4d([1 / ((2 * k - 1) * 2 * k), 1 / (2 * k * (2 * k + 1))], [2, 1, 1, 1]);
    sums = tf.sub(1, tf.mul(tf.mul(square, factors), sums));
  }
  const [cosine, ratio] = tf.unstack(sums, 0) as [tf.Tensor, tf.Tensor];
  const sine = tf.mul(half, ratio);
  return { cos: tf.sub(1, tf.mul(tf.mul(sine, sine), 2)), sin: tf.mul(tf.mul(sine, cosine), 2) };
}
