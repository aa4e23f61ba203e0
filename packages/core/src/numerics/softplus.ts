import * as tf from '@tensorflow/tfjs-core';
import { checkTensor } from '../kernel/check-tensor.ts';

// log(1 + exp(-|x|)) to full precision
function logOnePlusExpMinusAbs(input: tf.Tensor): tf.Tensor {
  const small = tf.exp(tf.neg(tf.abs(input)));
  const one = tf.add(small, 1);
  // what rounding 1 + small lost comes back as a first-order term; tfjs-wasm's own log1p gives 0 for 2e-9
  return tf.add(tf.log(one), tf.div(tf.sub(small, tf.sub(one, 1)), one));
}

/**
 * Softplus, `log(1 + exp(x))`, computed as `max(x, 0) + log1p(exp(-|x|))`: exact to rounding for any x, and its gradient is sigmoid(x).
 *
 * @param input float32 tensor of any shape
 * @returns a new tensor of that shape
 * @throws SeqLoomError when the input is not a float32 tensor
 */
export function softplus(input: tf.Tensor): tf.Tensor {
  checkTensor('softplus', 'input', input, input instanceof tf.Tensor ? input.shape : []);
  return tf.tidy(() =>
    tf.customGrad((given, save) => {
      const x = given as tf.Tensor;
      const value = tf.add(tf.relu(x), logOnePlusExpMinusAbs(x));
      // saved last: what is saved stays when the computation throws
      (save as tf.GradSaveFunc)([x]);
      return {
        value,
        gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) => tf.mul(upstream, tf.sigmoid(saved[0]!)),
      };
    })(input),
  );
}
