import * as tf from '@tensorflow/tfjs-core';
import { tidy } from '../tidy.ts';

/**
 * Value and gradients of a scalar: `g_i = d scalar / d by_i`.
 *
 * Like `tf.variableGrads`, but nothing leaks when the work throws: tfjs alone would keep the tensors that its tape saved.
 *
 * @param scalar makes a scalar tensor; what it makes on the way is freed
 * @param by tensors or variables
 * @returns the value, and per tensor its gradient or null where the scalar does not depend on it; all are the caller's
 */
export function valueAndGradients(
  scalar: () => tf.Tensor,
  by: readonly tf.Tensor[],
): { value: tf.Scalar; gradients: (tf.Tensor | null)[] } {
  const engine = tf.engine() as unknown as { state: { activeTape: { saved?: tf.Tensor[] }[] | null } };
  try {
    // the value is left to the scope, so that it goes when the backward pass throws
    return tidy(() => {
      const { value, grads } = tf.engine().gradients(scalar, [...by], undefined, true);
      return { value: value as tf.Scalar, gradients: grads.map((gradient) => (gradient as tf.Tensor | undefined) ?? null) };
    });
  } catch (error) {
    for (const node of engine.state.activeTape ?? []) tf.dispose(node.saved ?? []);
    engine.state.activeTape = null;
    throw error;
  }
}
