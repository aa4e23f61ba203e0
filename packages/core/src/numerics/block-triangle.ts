import * as tf from '@tensorflow/tfjs-core';

/** A lower-triangular matrix of blocks, taken apart once: two diagonal blocks and the one below them. */
export interface BlockTriangle {
  /** the diagonal blocks, first and second of each matrix in turn: [2m, rows, columns] */
  readonly diagonal: tf.Tensor3D;
  /** the block under the first and left of the second: [m, rows, columns] */
  readonly below: tf.Tensor3D;
}

/**
 * Puts [[first, 0], [below, second]] together.
 *
 * @param blocks diagonal [2m, rows, columns] and below [m, rows, columns]
 * @returns [m, 2 rows, 2 columns]
 */
export function joinBlocks({ diagonal, below }: BlockTriangle): tf.Tensor3D {
  return tf.tidy(() => {
    const [count, rows, columns] = below.shape;
    const pairs = tf.reshape(diagonal, [count, 2 * rows, columns]);
    const first = tf.slice(pairs, [0, 0, 0], [count, rows, columns]);
    const second = tf.slice(pairs, [0, rows, 0], [count, rows, columns]);
    const left = tf.concat([first, below], 1);
    const right = tf.concat([tf.zerosLike(first), second], 1);
    return tf.concat([left, right], 2) as tf.Tensor3D;
  });
}

/**
 * Takes the lower triangle of a matrix of 2 x 2 blocks apart; what stands above the diagonal is dropped. The reverse of `joinBlocks`.
 *
 * @param matrix [m, 2 rows, 2 columns]
 */
export function splitBlocks(matrix: tf.Tensor3D): BlockTriangle {
  const [count, doubleRows, doubleColumns] = matrix.shape;
  const rows = doubleRows / 2;
  const columns = doubleColumns / 2;
  const take = (row: number, column: number): tf.Tensor3D => tf.slice(matrix, [0, row, column], [count, rows, columns]);
  const below = take(rows, 0);
  const diagonal = tf.tidy(() => tf.reshape(tf.concat([take(0, 0), take(rows, columns)], 1), [2 * count, rows, columns]) as tf.Tensor3D);
  return { diagonal, below };
}

/** The smallest power of two that is not below `size`. */
export function nextPowerOfTwo(size: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, size)));
}
