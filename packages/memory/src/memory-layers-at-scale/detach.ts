import * as tf from '@tensorflow/tfjs-core';

/** The same numbers as a tensor that no gradient reaches, which the caller owns: which slots are best is a constant of the loss. */
export function detach<T extends tf.Tensor>(x: T): T {
  // what is run past the engine is not taped
  const identity = tf.getKernel('Identity', tf.getBackend())!;
  const same = identity.kernelFunc({ inputs: { x }, backend: tf.backend(), attrs: {} }) as tf.TensorInfo;
  return tf.engine().makeTensorFromTensorInfo(same) as T;
}
