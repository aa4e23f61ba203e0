import * as tf from '@tensorflow/tfjs-core';

/** The same numbers, through which no gradient goes. */
export function stopGradient<T extends tf.Tensor>(x: T): T {
  const stop = tf.customGrad((value: tf.Tensor | tf.GradSaveFunc) => ({
    value: tf.clone(value as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy),
  }));
  return stop(x) as T;
}
