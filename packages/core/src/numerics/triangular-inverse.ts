import * as tf from '@tensorflow/tfjs-core';
import { joinBlocks, nextPowerOfTwo, splitBlocks } from './block-triangle.ts';

/**
 * The inverse of I + A for strictly lower-triangular A, by recursive block inversion:
 *
 *   [[L1, 0], [B, L2]]^-1 = [[L1^-1, 0], [-L2^-1 B L1^-1, L2^-1]]
 *
 * Only log2(C) rounds of batched products, and no power series: its terms grow and cancel.
 *
 * @param strictlyLower A [M, C, C]; what stands on and above the diagonal is not read
 * @returns (I + A)^-1 [M, C, C], unit lower triangular
 */
export function unitLowerTriangularInverse(strictlyLower: tf.Tensor3D): tf.Tensor3D {
  return tf.tidy(() => {
    const [count, size] = strictlyLower.shape;
    const padded = nextPowerOfTwo(size);
    let rest: tf.Tensor3D =
      padded === size
        ? strictlyLower
        : tf.pad(strictlyLower, [
            [0, 0],
            [0, padded - size],
            [0, padded - size],
          ]);
    const below: tf.Tensor3D[] = [];
    for (let block = padded; block > 1; block /= 2) {
      const parts = splitBlocks(rest);
      below.push(parts.below);
      rest = parts.diagonal;
    }
    let inverse = tf.ones([count * padded, 1, 1]) as tf.Tensor3D;
    for (let block = 1; block < padded; block *= 2) {
      const under = below.pop()!;
      const pairs = tf.reshape(inverse, [under.shape[0], 2 * block, block]);
      const first = tf.slice(pairs, [0, 0, 0], [under.shape[0], block, block]);
      const second = tf.slice(pairs, [0, block, 0], [under.shape[0], block, block]);
      const corner = tf.neg(tf.matMul(second, tf.matMul(under, first))) as tf.Tensor3D;
      inverse = joinBlocks({ diagonal: inverse, below: corner });
    }
    return padded === size ? tf.clone(inverse) : tf.slice(inverse, [0, 0, 0], [count, size, size]);
  });
}
