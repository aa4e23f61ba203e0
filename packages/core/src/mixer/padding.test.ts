import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { registerGradients } from '../gradient/index.ts';
import { alignLeft, lastRows } from './padding.ts';

describe.each(['cpu', 'wasm'])('padding on %s', (backend) => {
  beforeAll(async () => {
    await tf.setBackend(backend);
    registerGradients();
  });

  it('moves tokens to the front in order and puts results back, whatever the padding holds', () => {
    tf.tidy(() => {
      const x = tf.tensor3d([NaN, 1, 2, NaN, 3, 4, NaN, NaN, 5, 6, 7, 8], [3, 4, 1]);
      const mask = tf.tensor2d([0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1], [3, 4]);
      const aligned = alignLeft(x, mask);
      expect([...aligned.x.dataSync()]).toEqual([1, 2, 0, 0, 3, 4, 0, 0, 5, 6, 7, 8]);
      expect([...aligned.lengths.dataSync()]).toEqual([2, 2, 4]);
      expect([...aligned.valid.dataSync()]).toEqual([1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1]);
      expect([...aligned.restore(tf.add(aligned.x, 10)).dataSync()]).toEqual([0, 11, 12, 0, 13, 14, 0, 0, 15, 16, 17, 18]);
    });
  });

  it('carries gradients through both moves, zero at padding', () => {
    tf.tidy(() => {
      const mask = tf.tensor2d([0, 1, 1], [1, 3], 'int32');
      const weights = tf.tensor3d([2, 3, 5], [1, 3, 1]);
      const slope = tf.grad((x) => {
        const aligned = alignLeft(x as tf.Tensor3D, mask);
        return tf.sum(tf.mul(aligned.restore(tf.mul(aligned.x, 7)), weights));
      })(tf.tensor3d([1, 1, 1], [1, 3, 1]));
      expect([...slope.dataSync()]).toEqual([0, 21, 35]);
    });
  });

  it('keeps the last rows of a window and new tokens, per row, also when the window starts empty or is short', () => {
    tf.tidy(() => {
      const window = tf.tensor3d([1, 2, 3, 4], [2, 2, 1]);
      const x = tf.tensor3d([5, 6, 7, 8, 9, 10], [2, 3, 1]);
      expect([...lastRows(window, x, null, 2).dataSync()]).toEqual([6, 7, 9, 10]);
      expect([...lastRows(window, x, tf.tensor1d([1, 0]), 2).dataSync()]).toEqual([2, 5, 3, 4]);
      expect([...lastRows(tf.zeros([2, 0, 1]), x, tf.tensor1d([3, 2]), 2).dataSync()]).toEqual([6, 7, 8, 9]);
      expect([...lastRows(tf.zeros([2, 0, 1]), x, null, 4).dataSync()]).toEqual([0, 5, 6, 7, 0, 8, 9, 10]);
    });
  });
});
