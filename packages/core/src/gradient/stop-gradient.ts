import * as tf from '@tensorflow/tfjs-core';

/**
 * The same values as a constant of the loss, through which no gradient goes.
 *
 * Nothing is taped, so that what is computed from it alone (a choice by scores, say) leaves no work for the backward pass. For the same
 * reason `valueAndGradients` gives null, and `tf.grad` an error, where a loss depends on a tensor through this alone.
 *
 * @param x tensor of any shape and dtype; stays the caller's
 * @returns a new tensor of that shape and dtype, which shares the values and is owned by the caller
 */
export function stopGradient<T extends tf.Tensor>(x: T): T {
  // a kernel that is run past the engine is not taped
  const identity = tf.getKernel('Identity', tf.getBackend())!;
  const same = identity.kernelFunc({ inputs: { x }, backend: tf.backend(), attrs: {} }) as tf.TensorInfo;
  return tf.engine().makeTensorFromTensorInfo(same) as T;
}
