import * as tf from '@tensorflow/tfjs-core';
import { rotaryAngles, rotaryFrequencies } from '@seqloom/attention';
import { gatherRowsKernel, rotary, tidy } from '@seqloom/core';

/**
 * Rotary positions in two steps: by the place of a token in its block, then by whole blocks.
 *
 * Scores depend on differences of positions alone. So a key keeps the rotation by its place in its block for ever, and wherever its
 * block is thought to stand, the query is turned by the number of blocks between them: no cached key is ever rotated again.
 */
export interface BlockRotation {
  /** turns x [B, T, H, D] by the places (position modulo block length) of its tokens at positions [1 or B, T] */
  readonly insideBlock: (x: tf.Tensor, positions: tf.Tensor) => tf.Tensor;
  /** turns x [B, N, H, D] by whole blocks: steps [1 or B, N], whole numbers of 0 to `most` */
  readonly byBlocks: (x: tf.Tensor, steps: tf.Tensor, most: number) => tf.Tensor;
}

/** The rotations for heads of a width, or null for none. */
export function blockRotation(headDim: number, base: number | null, blockLength: number): BlockRotation | null {
  if (base === null) return null;
  const inside = rotaryFrequencies(headDim, base, null);
  const across = { ...inside, frequencies: inside.frequencies.map((theta) => theta * blockLength) };
  const turn = (x: tf.Tensor, places: tf.Tensor, count: number, frequencies: typeof inside): tf.Tensor => {
    const table = rotaryAngles({ start: 0, length: count }, frequencies);
    const indices = tf.cast(places, 'int32');
    const rows = (angles: tf.Tensor): tf.Tensor =>
      gatherRowsKernel.run({ table: tf.reshape(angles, [count, headDim / 2]), indices }, {}).rows; // [1 or B, N, D / 2]
    return rotary({ input: x, cos: rows(table.cos), sin: rows(table.sin) });
  };
  return {
    insideBlock: (x, positions) =>
      tidy(() => {
        const place = tf.sub(positions, tf.mul(tf.floor(tf.div(positions, blockLength)), blockLength));
        return turn(x, place, blockLength, inside);
      }),
    byBlocks: (x, steps, most) => tidy(() => turn(x, steps, most + 1, across)),
  };
}
