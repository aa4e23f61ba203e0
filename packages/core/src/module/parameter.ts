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

let deferred = false;

/**
 * Builds modules whose parameters hold no tensor until each is first used or assigned, so that a model of any size can be counted, and a
 * checkpoint be loaded without initialising first.
 *
 * @param build makes the module, synchronously
 */
export function deferParameters<T>(build: () => T): T {
  const before = deferred;
  deferred = true;
  try {
    return build();
  } finally {
    deferred = before;
  }
}

/**
 * A learned tensor of a module: a float32 `tf.Variable` with what a trainer must know about it.
 */
export class Parameter {
  readonly shape: readonly number[];
  readonly size: number;
  readonly decay: boolean;
  readonly learningRateScale: number;
  /** false while frozen */
  trainable: boolean;
  #variable: tf.Variable | null = null;
  readonly #start: () => tf.Tensor;

  /**
   * @param shape shape of the tensor
   * @param initialiser fills it
   * @param seed seed of the initialiser's random numbers
   */
  constructor(shape: readonly number[], initialiser: Initialiser, seed: number, options: ParameterOptions = {}) {
    this.shape = [...shape];
    this.size = tf.util.sizeFromShape([...shape]);
    this.#start = () => tf.tensor(initialiser(this.shape, new Random(seed)), [...shape], 'float32');
    this.decay = options.decay ?? shape.length >= 2;
    this.learningRateScale = options.learningRateScale ?? 1;
    this.trainable = options.trainable ?? true;
    if (!deferred) this.#allocate(this.#start());
  }

  /** The variable behind `value`, as tfjs's optimisers and gradients want it. */
  get variable(): tf.Variable {
    return this.#variable ?? this.#allocate(this.#start());
  }

  /** The tensor to compute with; it stays the parameter's, do not dispose it. */
  get value(): tf.Tensor {
    return this.variable;
  }

  /** Copies new values in. */
  assign(tensor: tf.Tensor): void {
    if (tensor.dtype !== 'float32' || !tf.util.arraysEqual(tensor.shape, [...this.shape])) {
      fail({
        mechanism: 'Parameter',
        argument: 'assigned tensor',
        wanted: `float32 [${this.shape.join(', ')}]`,
        given: `${tensor.dtype} [${tensor.shape.join(', ')}]`,
        remedy: 'Assign a tensor of the same shape and type.',
      });
    }
    if (this.#variable) this.#variable.assign(tensor);
    else this.#allocate(tf.clone(tensor));
  }

  dispose(): void {
    this.#variable?.dispose();
  }

  #allocate(start: tf.Tensor): tf.Variable {
    this.#variable = tf.variable(start, true);
    start.dispose();
    return this.#variable;
  }
}
