import * as tf from '@tensorflow/tfjs-core';

/**
 * `tf.tidy` for results of any type: frees every tensor made in `work` but those that the result holds, also when it throws.
 *
 * @param work makes tensors; must not be async
 */
export function tidy<T>(work: () => T): T {
  return tf.tidy(work as () => tf.TensorContainer) as T;
}
