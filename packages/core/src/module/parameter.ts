import * as tf from '@tensorflow/tfjs-core';
import { fail } from '../error.ts';
import type { Initialiser } from './initialiser.ts';
import { Random } from './random.ts';

/** How a trainer treats a parameter. */
export interface ParameterOptions {
  /** weight decay applies; default: true for two and more axes, false for vectors and scalars */
  readonly decay?: boolean;
  /** factor on the learning rate, default 1 */
  readonly learningRateScale?: number;
  /** receives gradients, default true */
  readonly trainable?: boolean;
}

/**
 * A learned tensor of a module: a float32 `tf.Variable` with what a trainer must know about it.
 */
export class Parameter {
  readonly variable: tf.Variable;
  readonly decay: boolean;
  readonly learningRateScale: number;
  /** false while frozen */
  trainable: boolean;

  /**
   * @param shape shape of the tensor
   * @param initialiser fills it
   * @param seed seed of the initialiser's random numbers
   */
  constructor(shape: readonly number[], initialiser: Initialiser, seed: number, options: ParameterOptions = {}) {
    const data = initialiser(shape, new Random(seed));
    const start = tf.tensor(data, [...shape], 'float32');
    this.variable = tf.variable(start, true);
    start.dispose();
    this.decay = options.decay ?? shape.length >= 2;
    this.learningRateScale = options.learningRateScale ?? 1;
    this.trainable = options.trainable ?? true;
  }

  /** The tensor to compute with; it stays the parameter's, do not dispose it. */
  get value(): tf.Tensor {
    return this.variable;
  }

  get shape(): readonly number[] {
    return this.variable.shape;
  }

  get size(): number {
    return this.variable.size;
  }

  /** Copies new values in. */
  assign(tensor: tf.Tensor): void {
    if (tensor.dtype !== 'float32' || !tf.util.arraysEqual(tensor.shape, this.variable.shape)) {
      fail({
        mechanism: 'Parameter',
        argument: 'assigned tensor',
        wanted: `float32 [${this.shape.join(', ')}]`,
        given: `${tensor.dtype} [${tensor.shape.join(', ')}]`,
        remedy: 'Assign a tensor of the same shape and type.',
      });
    }
    this.variable.assign(tensor);
  }

  dispose(): void {
    this.variable.dispose();
  }
}
