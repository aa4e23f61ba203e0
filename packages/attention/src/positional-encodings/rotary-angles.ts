import { circlePoint, turnsAt } from '@seqloom/core';
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
 * Cosines and sines of position × frequency, times the magnitude, good to 2e-6 at positions up to a million.
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
 * @param positions [B, T]
 * @returns cos and sin [B, T, R / 2], owned by the caller
 */
export function computedAngles(positions: tf.Tensor, { frequencies, magnitude }: RotaryFrequencies): RotaryAngles {
  return tf.tidy(() => {
    const { cos, sin } = circlePoint(turnsAt(positions, frequencies)); // [B, T, R / 2]
    return magnitude === 1 ? { cos, sin } : { cos: tf.mul(cos, magnitude), sin: tf.mul(sin, magnitude) };
  });
}
