import * as tf from '@tensorflow/tfjs-core';
import { Module, ones, Parameter, softmaxAttention, zeros } from '@seqloom/core';
import type { Linear } from '@seqloom/core';

/** A learned affine map as tensors: weight [in, out] and bias [out], null for none. */
export interface Affine {
  readonly weight: tf.Tensor;
  readonly bias: tf.Tensor | null;
}

/** Learned tensors of a norm, both [D]. */
export interface NormTensors {
  readonly weight: tf.Tensor;
  readonly bias: tf.Tensor;
}

/** The tensors of a linear layer. */
export function affineOf(linear: Linear): Affine {
  return { weight: linear.weight.value, bias: linear.bias?.value ?? null };
}

/** `x W + b` on the last axis. */
export function affine(x: tf.Tensor, { weight, bias }: Affine): tf.Tensor {
  const [width, out] = weight.shape as [number, number];
  const flat = tf.matMul(tf.reshape(x, [-1, width]) as tf.Tensor2D, weight as tf.Tensor2D);
  return tf.reshape(bias ? tf.add(flat, bias) : flat, [...x.shape.slice(0, -1), out]);
}

/** `(x - mean x) / sqrt(var x + epsilon) * weight + bias` over the last axis. */
export function layerNorm(x: tf.Tensor, { weight, bias }: NormTensors, epsilon = 1e-5): tf.Tensor {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const variance = tf.mean(tf.square(centred), -1, true);
  return tf.add(tf.mul(tf.div(centred, tf.sqrt(tf.add(variance, epsilon))), weight), bias);
}

/** Layer normalisation with learned weight and bias. */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  /** @param dim width of the last axis */
  constructor(dim: number) {
    super();
    this.weight = new Parameter([dim], ones, 0);
    this.bias = new Parameter([dim], zeros, 0);
  }

  /** The learned tensors. */
  tensors(): NormTensors {
    return { weight: this.weight.value, bias: this.bias.value };
  }
}

/** Multi-head attention of projected rows: query [B, T, D] over key and value [B, S, D], D cut into heads, no mask. */
export function attendHeads(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, heads: number, keyPositions?: tf.Tensor): tf.Tensor3D {
  const cut = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [x.shape[0]!, x.shape[1]!, heads, x.shape[2]! / heads]);
  const { output } = softmaxAttention({ query: cut(query), key: cut(key), value: cut(value), ...(keyPositions ? { keyPositions } : {}) });
  return tf.reshape(output, [query.shape[0]!, query.shape[1]!, value.shape[2]!]);
}
