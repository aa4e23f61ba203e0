import * as tf from '@tensorflow/tfjs-core';
import { fail } from '@seqloom/core';
import { taylorFeatureDim, taylorFeatures } from './taylor-features.ts';

/**
 * A feature map phi on the head dimension, as plain JSON.
 *
 * - `elu1` elu(x) + 1; `relu` max(x, 0); `identity` x; `silu` x sigmoid(x); `softmax` softmax over the features
 * - `efficient` softmax over the features for queries, softmax over the sequence for keys
 * - `t2r` relu(x W + b); `hadamard` (x W1 + b1) * (x W2 + b2); `hedgehog` softmax of [c y, -c y], y = x W + b
 * - `dpfp` x' = [relu(x), relu(-x)], concatenation over j = 1..nu of x' * roll(x', j)
 * - `taylor2` [1, x / K^(1/4), (x outer x) / (sqrt(2) K^(1/2))], so that phi(q) phi(k) = 1 + u + u^2 / 2 with u = q k / sqrt(K)
 */
export type FeatureMap =
  | { readonly name: 'elu1' | 'relu' | 'identity' | 'silu' | 'softmax' | 'efficient' }
  | { readonly name: 't2r' | 'hadamard'; readonly featureDim: number }
  | { readonly name: 'hedgehog'; /** sharpness, 1 as in the paper when left out */ readonly c?: number }
  | { readonly name: 'dpfp'; /** number of rolls, 1 when left out */ readonly nu?: number }
  | { readonly name: 'taylor2'; /** keep each product of two channels once: fewer features, same kernel */ readonly symmetric?: boolean };

/** Learned tensors of one side's map: `t2r` and `hedgehog` read weight and bias, `hadamard` all four. */
export interface FeatureParameters {
  /** [K, F] */
  readonly weight: tf.Tensor;
  /** [F] */
  readonly bias: tf.Tensor;
  /** [K, F], the second factor of `hadamard` */
  readonly weight2?: tf.Tensor;
  /** [F] */
  readonly bias2?: tf.Tensor;
}

const LEARNED: readonly string[] = ['t2r', 'hadamard', 'hedgehog'];
const SIGNED: readonly string[] = ['identity', 'silu', 'hadamard'];

/** Whether the map has learned tensors. */
export function isLearned(map: FeatureMap): boolean {
  return LEARNED.includes(map.name);
}

/** Whether phi(q) phi(k) can be negative, so that a normaliser could cross zero. */
export function isSigned(map: FeatureMap): boolean {
  return SIGNED.includes(map.name);
}

/** Number of features F that the map makes of K channels. */
export function featureDimOf(map: FeatureMap, keyDim: number): number {
  switch (map.name) {
    case 't2r':
    case 'hadamard':
      return map.featureDim;
    case 'hedgehog':
      return 2 * keyDim;
    case 'dpfp':
      return 2 * keyDim * (map.nu ?? 1);
    case 'taylor2':
      return taylorFeatureDim(keyDim, map.symmetric ?? false);
    default:
      return keyDim;
  }
}

/**
 * Applies a feature map to the last axis.
 *
 * The keys of `efficient` are not a function of one token; `applyFeatureMap` gives its query side.
 *
 * @param x float32 [..., K]
 * @param parameters learned tensors, for the maps that have them
 * @returns [..., F], owned by the caller
 * @throws SeqLoomError when the map's parameters are missing
 */
export function applyFeatureMap(x: tf.Tensor, map: FeatureMap, parameters?: FeatureParameters): tf.Tensor {
  return tf.tidy(() => {
    switch (map.name) {
      case 'elu1':
        return tf.add(tf.relu(x), tf.exp(tf.minimum(x, 0)));
      case 'relu':
        return tf.relu(x);
      case 'identity':
        return tf.clone(x);
      case 'silu':
        return tf.mul(x, tf.sigmoid(x));
      case 'softmax':
      case 'efficient':
        return tf.softmax(x);
      case 't2r':
        return tf.relu(affine(x, learned(map, parameters?.weight), parameters!.bias));
      case 'hadamard':
        return tf.mul(
          affine(x, learned(map, parameters?.weight), parameters!.bias),
          affine(x, learned(map, parameters?.weight2), learned(map, parameters?.bias2)),
        );
      case 'hedgehog': {
        const y = tf.mul(affine(x, learned(map, parameters?.weight), parameters!.bias), map.c ?? 1);
        return tf.softmax(tf.concat([y, tf.neg(y)], -1));
      }
      case 'dpfp': {
        const halves = tf.concat([tf.relu(x), tf.relu(tf.neg(x))], -1);
        return tf.concat(
          Array.from({ length: map.nu ?? 1 }, (_, j) => tf.mul(halves, roll(halves, j + 1))),
          -1,
        );
      }
      case 'taylor2':
        return taylorFeatures(x, map.symmetric ?? false);
    }
  });
}

/** Divides features by their sum plus 1e-4, the `normaliseQuery` and `normaliseKey` of the op. */
export function sumNormalise(features: tf.Tensor): tf.Tensor {
  return tf.tidy(() => tf.div(features, tf.add(tf.sum(features, -1, true), 1e-4)));
}

function learned(map: FeatureMap, parameter: tf.Tensor | undefined): tf.Tensor {
  return (
    parameter ??
    fail({
      mechanism: 'linear-attention',
      argument: 'featureParameters',
      wanted: `given for the learned map ${map.name}`,
      given: 'none',
      remedy: 'Pass weight and bias for query and key, or choose a map without parameters.',
    })
  );
}

function affine(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor): tf.Tensor {
  const [width, features] = weight.shape as [number, number];
  const flat = tf.matMul(tf.reshape(x, [-1, width]) as tf.Tensor2D, weight as tf.Tensor2D);
  return tf.reshape(tf.add(flat, bias), [...x.shape.slice(0, -1), features]);
}

// y_i = x_{i - shift mod n} on the last axis
function roll(x: tf.Tensor, shift: number): tf.Tensor {
  const width = x.shape.at(-1)!;
  const cut = width - (shift % width);
  if (cut === width) return x;
  const parts = tf.split(x, [cut, width - cut], -1);
  return tf.concat([parts[1]!, parts[0]!], -1);
}
