import * as tf from '@tensorflow/tfjs-core';
import { checkTensor } from '../kernel/check-tensor.ts';
import { softplus } from './softplus.ts';

/**
 * Log-sigmoid, `log(1 / (1 + exp(-x)))`, computed as `-softplus(-x)`: exact to rounding for any x, and its gradient is sigmoid(-x).
 *
 * @param input float32 tensor of any shape
 * @returns a new tensor of that shape, nowhere above 0
 * @throws SeqLoomError when the input is not a float32 tensor
 */
export function logSigmoid(input: tf.Tensor): tf.Tensor {
  checkTensor('log-sigmoid', 'input', input, input instanceof tf.Tensor ? input.shape : []);
  return tf.tidy(() =>
    tf.customGrad((given, save) => {
      const x = given as tf.Tensor;
      const value = tf.neg(softplus(tf.neg(x)));
      // saved last: what is saved stays when the computation throws
      (save as tf.GradSaveFunc)([x]);
      return {
        value,
        gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) => tf.mul(upstream, tf.sigmoid(tf.neg(saved[0]!))),
      };
    })(input),
  );
}
