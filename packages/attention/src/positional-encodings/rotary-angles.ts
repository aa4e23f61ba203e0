import * as tf from '@tensorflow/tfjs-core';
import type { RotaryFrequencies } from './rotary-frequencies.ts';

/** Tables for the `rotary` kernel: cos and sin of each pair's angle, [1 or B, T, R / 2]. */
export interface RotaryAngles {
  readonly cos: tf.Tensor;
  readonly sin: tf.Tensor;
}

/** Positions as a tensor [B, T] of whole numbers, or a run of them that is the same for all rows. */
export type Positions = tf.Tensor | { readonly start: number; readonly length: number };

// backends whose tensors lie in this process's memory, so that reading one costs no waiting
const IN_MEMORY: readonly string[] = ['cpu', 'wasm'];

/**
 * Cosines and sines of position × frequency, times the magnitude, good to 1e-6 at positions up to a million.
 *
 * They are tabled in float64 on the host where the positions are known there or lie in its memory, once for all rows that stand at
 * the same places; on a GPU they are computed where they are.
 *
 * @param positions [B, T], or start and length
 * @param frequencies of `rotaryFrequencies`
 * @returns cos and sin [1 or B, T, R / 2], owned by the caller
 */
export function rotaryAngles(positions: Positions, frequencies: RotaryFrequencies): RotaryAngles {
  if (!(positions instanceof tf.Tensor)) {
    const { start, length } = positions;
    const places = Array.from({ length }, (_, t) => start + t);
    return tabledAngles(places, [1, length], frequencies);
  }
  if (!IN_MEMORY.includes(tf.getBackend())) return computedAngles(positions, frequencies);
  const [batch, length] = positions.shape as [number, number];
  const places = positions.dataSync();
  const same = places.every((place, i) => place === places[i % length]);
  return same ? tabledAngles(places.subarray(0, length), [1, length], frequencies) : tabledAngles(places, [batch, length], frequencies);
}

/** Angles of positions on the host. */
function tabledAngles(
  places: ArrayLike<number>,
  [rows, length]: [number, number],
  { frequencies, magnitude }: RotaryFrequencies,
): RotaryAngles {
  const pairs = frequencies.length;
  const [cos, sin] = [new Float32Array(places.length * pairs), new Float32Array(places.length * pairs)];
  for (let t = 0; t < places.length; t++) {
    for (let r = 0; r < pairs; r++) {
      const angle = places[t]! * frequencies[r]!;
      cos[t * pairs + r] = magnitude * Math.cos(angle);
      sin[t * pairs + r] = magnitude * Math.sin(angle);
    }
  }
  return { cos: tf.tensor(cos, [rows, length, pairs]), sin: tf.tensor(sin, [rows, length, pairs]) };
}

/**
 * Angles of positions in a tensor, computed by its backend.
 *
 * Positions are split into 1024 a + b and the turns of both parts are reduced before they are added, since a float32 product of
 * position and frequency would lose its fraction.
 *
 * @param positions [B, T]
 * @returns cos and sin [B, T, R / 2], owned by the caller
 */
export function computedAngles(positions: tf.Tensor, { frequencies, magnitude }: RotaryFrequencies): RotaryAngles {
  return tf.tidy(() => {
    const position = tf.reshape(tf.cast(positions, 'float32'), [...positions.shape, 1] as [number, number, number]); // [B, T, 1]
    const coarse = tf.floor(tf.div(position, 1024));
    const fine = tf.sub(position, tf.mul(coarse, 1024));
    const turns = tf.add(reducedTurns(coarse, frequencies, 1024), reducedTurns(fine, frequencies, 1));
    const { cos, sin } = circlePoint(turns); // [B, T, R / 2]
    return magnitude === 1 ? { cos, sin } : { cos: tf.mul(cos, magnitude), sin: tf.mul(sin, magnitude) };
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

/**
 * Cosine and sine of 2 pi times the turns, good to 2e-7: WebGPU's own are only promised to 2^-11.
 *
 * Power series of the half angle, which lies in [-pi / 2, pi / 2], then cos 2y = 1 - 2 sin^2 y and sin 2y = 2 sin y cos y.
 */
function circlePoint(turns: tf.Tensor): RotaryAngles {
  const half = tf.mul(tf.sub(turns, tf.floor(tf.add(turns, 0.5))), Math.PI);
  const square = tf.mul(half, half);
  // 1 - y^2 / (a (a + 1)) (1 - y^2 / ((a + 2) (a + 3)) (...)), innermost first
  const series = (first: number): tf.Tensor => {
    let sum: tf.Tensor = tf.onesLike(square);
    for (let a = first + 12; a >= first; a -= 2) sum = tf.sub(1, tf.mul(tf.div(square, a * (a + 1)), sum));
    return sum;
  };
  const [sine, cosine] = [tf.mul(half, series(2)), series(1)];
  return { cos: tf.sub(1, tf.mul(2, tf.mul(sine, sine))), sin: tf.mul(2, tf.mul(sine, cosine)) };
}
