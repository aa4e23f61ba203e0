import * as tf from '@tensorflow/tfjs-core';
import { rmsNorm } from '@seqloom/core';

/** Between two layers of a memory network. */
export type MemoryActivation = 'gelu' | 'silu';

/** What of a memory network its tokens do not change; N = rows times heads. */
export interface MemoryNetwork {
  readonly activation: MemoryActivation;
  /** `M(x) = x + LayerNorm(MLP(x)) * weight + bias`, both [N, 1, D]; null: the MLP alone */
  readonly norm: { readonly weight: tf.Tensor; readonly bias: tf.Tensor } | null;
}

/** Keys at each layer of the network, and the gradients of the loss there: layer l has `inputs[l]` [N, C, in] and `errors[l]` [N, C, out]. */
export interface Surprise {
  readonly inputs: readonly tf.Tensor[];
  readonly errors: readonly tf.Tensor[];
}

const EPSILON = 1e-6;
const DENSITY = 1 / Math.sqrt(2 * Math.PI);

/** `gelu(x) = x Phi(x)` or `silu(x) = x sigma(x)`. */
export function activate(x: tf.Tensor, activation: MemoryActivation): tf.Tensor {
  return tf.mul(x, activation === 'silu' ? tf.sigmoid(x) : normalShare(x));
}

/** The derivative of `activate`, written out, so that the outer gradient can go through it. */
export function slope(x: tf.Tensor, activation: MemoryActivation): tf.Tensor {
  if (activation === 'gelu') return tf.add(normalShare(x), tf.mul(x, tf.mul(tf.exp(tf.mul(tf.square(x), -0.5)), DENSITY)));
  const share = tf.sigmoid(x);
  return tf.mul(share, tf.add(tf.mul(x, tf.sub(1, share)), 1));
}

// Phi(x), the distribution function of the normal distribution
function normalShare(x: tf.Tensor): tf.Tensor {
  return tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);
}

/** Rows without mean and of variance one, and the factor that was applied: both for LayerNorm and its gradient. */
export function standardise(x: tf.Tensor, epsilon = EPSILON): { rows: tf.Tensor; scale: tf.Tensor } {
  const centred = tf.sub(x, tf.mean(x, 2, true));
  const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 2, true), epsilon));
  return { rows: tf.mul(centred, scale), scale };
}

/** What LayerNorm passes back to its input: `scale (g - mean g - x^ mean(g x^))`. */
export function standardiseGradient({ rows, scale }: { rows: tf.Tensor; scale: tf.Tensor }, gradient: tf.Tensor): tf.Tensor {
  const along = tf.mul(rows, tf.mean(tf.mul(gradient, rows), 2, true));
  return tf.mul(scale, tf.sub(tf.sub(gradient, tf.mean(gradient, 2, true)), along));
}

/**
 * Runs rows through a network whose layers are given as functions, so that each row may meet weights of its own.
 *
 * @param rows [N, C, D]
 * @param layers the linear maps, first to last
 */
export function readNetwork(rows: tf.Tensor, layers: readonly ((x: tf.Tensor) => tf.Tensor)[], network: MemoryNetwork): tf.Tensor {
  let x = rows;
  for (const [index, layer] of layers.entries()) x = layer(index === 0 ? x : activate(x, network.activation));
  if (!network.norm) return x;
  return tf.add(rows, tf.add(tf.mul(standardise(x).rows, network.norm.weight), network.norm.bias));
}

/**
 * The gradient of `|M(k) - v|^2` with respect to each layer's weights, in factors: layer l's is `inputs[l]^T errors[l]`, token by token.
 *
 * @param key [N, C, D]
 * @param value [N, C, E]
 * @param weights per layer [N, in, out], the same for all C tokens
 */
export function surpriseOf(key: tf.Tensor, value: tf.Tensor, weights: readonly tf.Tensor[], network: MemoryNetwork): Surprise {
  const inputs: tf.Tensor[] = [];
  const sums: tf.Tensor[] = [];
  for (const [index, weight] of weights.entries()) {
    inputs.push(index === 0 ? key : activate(sums[index - 1]!, network.activation));
    sums.push(tf.matMul(inputs[index]!, weight));
  }
  const last = sums.at(-1)!;
  let error: tf.Tensor;
  if (network.norm) {
    const standard = standardise(last);
    const output = tf.add(key, tf.add(tf.mul(standard.rows, network.norm.weight), network.norm.bias));
    error = standardiseGradient(standard, tf.mul(tf.mul(tf.sub(output, value), 2), network.norm.weight));
  } else {
    error = tf.mul(tf.sub(last, value), 2);
  }
  const errors = [error];
  for (let index = weights.length - 1; index > 0; index--) {
    error = tf.mul(tf.matMul(error, weights[index]!, false, true), slope(sums[index - 1]!, network.activation));
    errors.unshift(error);
  }
  return { inputs, errors };
}

/** Rows of length one over the last axis. */
export function unitLength<T extends tf.Tensor>(x: T): T {
  const width = x.shape.at(-1)!;
  return tf.mul(rmsNorm({ input: x }, { epsilon: 1e-6 / width }), width ** -0.5) as T;
}
