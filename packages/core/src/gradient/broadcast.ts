import * as tf from '@tensorflow/tfjs-core';

/**
 * Sums a gradient over the axes along which an operand of the given shape was broadcast: the adjoint of broadcasting.
 *
 * @param gradient gradient in the broadcast shape.
 * @param shape shape of the operand, aligned to the right as broadcasting does.
 * @returns a tensor of `shape`; `gradient` itself where nothing was broadcast.
 */
export function reduceToShape(gradient: tf.Tensor, shape: number[]): tf.Tensor {
  if (tf.util.arraysEqual(gradient.shape, shape)) return gradient;
  const lead = gradient.rank - shape.length;
  const axes = gradient.shape.flatMap((size, i) => (i < lead || (shape[i - lead] === 1 && size !== 1) ? [i] : []));
  return tf.reshape(axes.length > 0 ? tf.sum(gradient, axes) : gradient, shape);
}

/**
 * Broadcasts a tensor to a shape by adding it to zeros, because tiling takes ten times as long on the wasm backend.
 *
 * @param tensor tensor whose shape broadcasts to `shape`.
 * @param shape target shape.
 * @returns a new tensor of `shape`.
 */
export function expandToShape(tensor: tf.Tensor, shape: number[]): tf.Tensor {
  return tf.util.arraysEqual(tensor.shape, shape) ? tf.clone(tensor) : tf.add(tf.zeros(shape), tensor);
}

/**
 * Reads a saved tensor as float32, so that derivative rules need not care about integer operands.
 *
 * @param tensor saved input or output of a kernel.
 * @returns `tensor` itself where it is float32, else a cast of it.
 */
export function asFloat(tensor: tf.Tensor): tf.Tensor {
  return tensor.dtype === 'float32' ? tensor : tf.cast(tensor, 'float32');
}

/**
 * Output of y = f(x) for use in its own gradient. While an outer gradient is being taped it is computed again from x, because tfjs
 * tapes the copy of a saved output before the kernel that made it, and so loses its dependence on x (second derivatives go wrong).
 *
 * @param op the op f.
 * @param x saved input.
 * @param y saved output.
 * @returns `y` itself in a first-order gradient, else f(x).
 */
export function outputOf(op: (x: tf.Tensor) => tf.Tensor, x: tf.Tensor, y: tf.Tensor): tf.Tensor {
  return tf.engine().isTapeOn() ? op(x) : y;
}

/**
 * Gradient of a kernel that is constant almost everywhere (rounding, comparison, arg-max): zero for every input.
 *
 * @param kernelName kernel in tfjs's registry.
 * @param inputs names of its inputs.
 * @returns a configuration for `tf.registerGradient`.
 */
export function zeroGradient(kernelName: string, inputs: string[]): tf.GradConfig {
  return {
    kernelName,
    inputsToSave: inputs,
    gradFunc: (_dy, saved) => Object.fromEntries(inputs.map((name, i) => [name, () => tf.zeros(saved[i].shape)])),
  };
}
