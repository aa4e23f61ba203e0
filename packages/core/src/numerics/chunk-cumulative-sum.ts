import * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor } from '../kernel/check-tensor.ts';
import { cumulativeSum } from './cumulative-sum.ts';

/** Settings of `chunkCumulativeSum`. */
export type ChunkCumulativeSumOptions = {
  /** steps after which the sum starts again from zero */
  readonly chunkSize: number;
  /** whether each chunk is summed from its last step to its first (false) */
  readonly reverse?: boolean;
  /** whether a step's own term is left out (false) */
  readonly exclusive?: boolean;
};

function sumChunks(input: tf.Tensor, chunkSize: number, exclusive: boolean, reverse: boolean): tf.Tensor {
  const [batch, time, ...rest] = input.shape as [number, number, ...number[]];
  const chunks = Math.ceil(time / chunkSize);
  const width = rest.reduce((product, extent) => product * extent, 1);
  const flat = tf.reshape(input, [batch, time, width]);
  const missing = chunks * chunkSize - time;
  const filled =
    missing === 0
      ? flat
      : tf.pad(flat, [
          [0, 0],
          [0, missing],
          [0, 0],
        ]);
  const sums = cumulativeSum(tf.reshape(filled, [batch * chunks, chunkSize, width]), 1, exclusive, reverse);
  const whole = tf.reshape(sums, [batch, chunks * chunkSize, width]);
  return tf.reshape(missing === 0 ? whole : tf.slice(whole, [0, 0, 0], [batch, time, width]), input.shape);
}

/**
 * Cumulative sum over time that starts again at every chunk: `y_t = sum of x_s over s <= t in the chunk of t`.
 *
 * Log decays are summed this way, as sums of local terms: the difference of two sums over the whole sequence would have lost its
 * digits to their size.
 *
 * @param input float32 [B, T, ...]; T need not be a multiple of the chunk size
 * @param options `chunkSize`, and optionally `reverse` and `exclusive`
 * @returns a new tensor of the shape of `input`
 * @throws SeqLoomError when the input is not a float32 tensor of rank 2 or more, or the chunk size is not a whole number above 0
 */
export function chunkCumulativeSum(input: tf.Tensor, options: ChunkCumulativeSumOptions): tf.Tensor {
  const { chunkSize, reverse = false, exclusive = false } = options;
  const rest = input instanceof tf.Tensor ? input.shape.slice(2) : [];
  checkTensor('chunk-cumulative-sum', 'input', input, ['batch', 'time', ...rest]);
  const right = Number.isInteger(chunkSize) && chunkSize > 0;
  checkSetting('chunk-cumulative-sum', 'chunkSize', right, 'a whole number of at least 1', chunkSize, 'Usual sizes are 16 to 128.');
  return tf.tidy(() =>
    tf.customGrad((given) => ({
      value: sumChunks(given as tf.Tensor, chunkSize, exclusive, reverse),
      // every term counts in the sums of the steps after it: the same sum the other way
      gradFunc: (upstream: tf.Tensor) => sumChunks(upstream, chunkSize, exclusive, !reverse),
    }))(input),
  );
}
