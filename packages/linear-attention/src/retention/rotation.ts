import { circlePoint, turnsAt } from '@seqloom/core';
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
    const first = circlePoint(turnsAt(tf.reshape(position, [batch, 1]), frequencies)); // [B, 1, K / 2]
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
