import type * as tf from '@tensorflow/tfjs-core';
import { causalConv1d } from '../kernel/causal-conv1d.ts';
import { uniform, zeros } from './initialiser.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** Config of `ShortConvolution`. */
export interface ShortConvolutionConfig {
  readonly channels: number;
  /** taps, the current token included, default 4 */
  readonly kernelSize?: number;
  /** add a learned vector, default false */
  readonly bias?: boolean;
  /** default silu */
  readonly activation?: 'silu' | 'none';
  readonly seed?: number;
}

/**
 * The short depthwise causal convolution in front of queries, keys and values: `y_t = act(sum_j w_j * x_{t - K + 1 + j} + b)`, with the
 * last K - 1 inputs as state.
 *
 * Source: Poli et al. 2023 (Hyena), Gu & Dao 2023 (Mamba).
 */
export class ShortConvolution extends Module {
  /** [channels, kernelSize]; the last tap is the current token's */
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly channels: number;
  readonly kernelSize: number;
  readonly activation: 'silu' | 'none';

  constructor(config: ShortConvolutionConfig) {
    super();
    const { channels, kernelSize = 4, bias = false, activation = 'silu', seed = 0 } = config;
    this.channels = channels;
    this.kernelSize = kernelSize;
    this.activation = activation;
    this.weight = new Parameter([channels, kernelSize], uniform(1 / Math.sqrt(kernelSize)), seed);
    this.bias = bias ? new Parameter([channels], zeros, 0) : null;
  }

  /** Shape of the window that a batch carries. */
  stateShape(batch: number): [number, number, number] {
    return [batch, this.kernelSize - 1, this.channels];
  }

  /**
   * @param x float32 [B, T, channels], padding on the right
   * @param options state [B, kernelSize - 1, channels], oldest first; lengths [B], valid tokens per row, null: all
   * @returns output [B, T, channels], zeros at padding, and the window after the last valid token
   */
  forward(
    x: tf.Tensor3D,
    options: { readonly state: tf.Tensor; readonly lengths: tf.Tensor1D | null },
  ): { output: tf.Tensor3D; state: tf.Tensor3D } {
    const { state, lengths } = options;
    const result = causalConv1d(
      {
        input: x,
        weight: this.weight.value as tf.Tensor2D,
        state: state as tf.Tensor3D,
        ...(this.bias ? { bias: this.bias.value as tf.Tensor1D } : {}),
        ...(lengths ? { lengths } : {}),
      },
      { activation: this.activation },
    );
    return result as { output: tf.Tensor3D; state: tf.Tensor3D };
  }
}
