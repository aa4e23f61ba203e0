import type * as tf from '@tensorflow/tfjs-core';
import { rmsNorm } from '../kernel/rms-norm.ts';
import { ones } from './initialiser.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/**
 * Root-mean-square normalisation of the last axis: `y = x / sqrt(mean(x^2) + epsilon) * weight`.
 *
 * Source: Zhang & Sennrich 2019, "Root mean square layer normalization".
 */
export class RmsNorm extends Module {
  readonly weight: Parameter;
  readonly epsilon: number;

  constructor(config: { readonly dim: number; readonly epsilon?: number }) {
    super();
    this.weight = new Parameter([config.dim], ones, 0);
    this.epsilon = config.epsilon ?? 1e-5;
  }

  /** @param x float32 [..., dim] */
  forward<T extends tf.Tensor>(x: T): T {
    return rmsNorm({ input: x, weight: this.weight.value }, { epsilon: this.epsilon }) as T;
  }
}
