import * as tf from '@tensorflow/tfjs-core';
import { normal, zeros } from './initialiser.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** Config of `Linear`. */
export interface LinearConfig {
  readonly in: number;
  readonly out: number;
  /** add a learned vector, default false */
  readonly bias?: boolean;
  readonly seed?: number;
  /** standard deviation of the weight's normal initialisation, default 1 / sqrt(in) */
  readonly deviation?: number | undefined;
}

/** The map `y = x W + b` on the last axis; `weight` is [in, out], the transpose of PyTorch's. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(config: LinearConfig) {
    super();
    const deviation = config.deviation ?? 1 / Math.sqrt(config.in);
    this.weight = new Parameter([config.in, config.out], normal(deviation), config.seed ?? 0);
    this.bias = config.bias ? new Parameter([config.out], zeros, 0) : null;
  }

  /**
   * @param x float32 [..., in]
   * @returns [..., out]
   */
  forward(x: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      const [width, out] = this.weight.shape as [number, number];
      // one flat product: backends are much faster at it than at a batch of small ones
      const flat = tf.matMul(tf.reshape(x, [-1, width]) as tf.Tensor2D, this.weight.value as tf.Tensor2D);
      const y = this.bias ? tf.add(flat, this.bias.value) : flat;
      return tf.reshape(y, [...x.shape.slice(0, -1), out]);
    });
  }
}
