import * as tf from '@tensorflow/tfjs-core';

/**
 * The same values as a tensor that no gradient passes, which the caller owns.
 *
 * What is chosen by scores is a constant of the loss; computed from detached scores it leaves no work for the backward pass.
 */
export function detach<T extends tf.Tensor>(x: T): T {
  // a kernel that is run past the engine is not taped
  const identity = tf.getKernel('Identity', tf.getBackend())!;
  const same = identity.kernelFunc({ inputs: { x }, backend: tf.backend(), attrs: {} }) as tf.TensorInfo;
  return tf.engine().makeTensorFromTensorInfo(same) as T;
}
