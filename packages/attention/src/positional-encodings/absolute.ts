import * as tf from '@tensorflow/tfjs-core';
import { Embedding, fail, Module } from '@seqloom/core';
import { rotaryAngles } from './rotary-angles.ts';
import type { Positions } from './rotary-angles.ts';
import { rotaryFrequencies } from './rotary-frequencies.ts';

/**
 * Sinusoidal position encodings, to be added to token embeddings: PE[m, 2r] = sin mθ_r, PE[m, 2r+1] = cos mθ_r.
 *
 * @param positions [B, T], or start and length
 * @param dim width, even
 * @param base default 10000
 * @returns [1 or B, T, dim], owned by the caller
 * @throws SeqLoomError when the width is odd
 * @see "Attention Is All You Need" (Vaswani et al. 2017)
 */
export function sinusoidalPositions(positions: Positions, dim: number, base = 10000): tf.Tensor3D {
  const frequencies = rotaryFrequencies(dim, base);
  return tf.tidy(() => {
    const { cos, sin } = rotaryAngles(positions, frequencies);
    const [rows, length] = cos.shape as [number, number];
    return tf.reshape(tf.stack([sin, cos], 3), [rows, length, dim]);
  });
}

/** Learned position embeddings: one row per position, up to a fixed length. */
export class LearnedPositions extends Module {
  readonly table: Embedding;
  readonly maxLength: number;

  /** @param config rows, width, seed and standard deviation (default 0.02) */
  constructor(config: { readonly maxLength: number; readonly dim: number; readonly seed?: number; readonly deviation?: number }) {
    super();
    const { maxLength, ...rest } = config;
    this.maxLength = maxLength;
    this.table = new Embedding({ count: maxLength, ...rest });
  }

  /**
   * @param positions [B, T], or start and length; those in a tensor have to be below `maxLength`
   * @returns [1 or B, T, dim]
   * @throws SeqLoomError when a run of positions ends beyond the table
   */
  forward(positions: Positions): tf.Tensor3D {
    if (positions instanceof tf.Tensor) return tf.tidy(() => this.table.forward(tf.cast(positions, 'int32')) as tf.Tensor3D);
    const { start, length } = positions;
    if (start < 0 || start + length > this.maxLength)
      fail({
        mechanism: 'positional-encodings',
        argument: 'positions',
        wanted: `within [0, ${this.maxLength})`,
        given: `${start} to ${start + length - 1}`,
        remedy: 'Learned positions end at maxLength: build the table longer, or use rotary positions.',
      });
    return tf.tidy(() => this.table.forward(tf.reshape(tf.range(start, start + length, 1, 'int32'), [1, length])) as tf.Tensor3D);
  }
}
