import * as tf from '@tensorflow/tfjs-core';
import { chunkForm } from './chunk.ts';
import { EMPTY_LOG, runningSoftmax } from './efficient-keys.ts';
import { applyFeatureMap, sumNormalise } from './feature-maps.ts';
import type { FeatureParameters } from './feature-maps.ts';
import { resolveSettings } from './settings.ts';
import type { LinearAttentionSettings, LinearAttentionState, LinearAttentionTensors, ResolvedSettings } from './settings.ts';
import { parallelForm } from './parallel.ts';
import type { Features, Sums, Visibility } from './parallel.ts';
import { recurrentForm } from './recurrent.ts';

/** Output and state of the op; the caller owns both. */
export interface LinearAttentionResult {
  /** [B, T, Hq, Dv] */
  readonly output: tf.Tensor4D;
  readonly state: LinearAttentionState;
}

/**
 * Attention with a feature map in place of the exponential: `o_i = phi(q_i) S_i / (phi(q_i) z_i + epsilon)`, where S_i and z_i sum
 * phi(k_j) v_j^T and phi(k_j) over the keys that query i sees. Without `normalise` the denominator is 1.
 *
 * @param tensors query [B, T, Hq, K], key [B, S, H, K], value [B, S, H, Dv], float32; Hq is a multiple of H, and S = T for self patterns
 * @param settings feature map, pattern, form, state and the rest; see `LinearAttentionSettings` for the defaults
 * @returns output [B, T, Hq, Dv] and the state after the last key: `memory` [B, H, F, Dv + 1] with z as its last column where outputs are
 *   normalised, [B, H, F, Dv] where not
 * @throws SeqLoomError on a wrong rank, shape, dtype, or settings that do not go together
 * @see Katharopoulos et al. 2020, "Transformers are RNNs", arXiv 2006.16236
 */
export function linearAttention(tensors: LinearAttentionTensors, settings: LinearAttentionSettings = {}): LinearAttentionResult {
  const resolved = resolveSettings(tensors, settings);
  const results = tf.tidy(() => {
    const { output, state } = compute(tensors, resolved);
    return { output, ...state };
  }) as unknown as { output: tf.Tensor4D } & LinearAttentionState;
  const { output, ...state } = results;
  return { output, state };
}

function compute({ query, key, value }: LinearAttentionTensors, settings: ResolvedSettings): LinearAttentionResult {
  const { featureMap, featureParameters, normalise, normaliseQuery, normaliseKey, scale, mask, state, pattern } = settings;
  const keep = mask && (tf.reshape(tf.cast(mask, 'float32'), [mask.shape[0]!, mask.shape[1]!, 1, 1]) as tf.Tensor4D);
  const side = (x: tf.Tensor, parameters: FeatureParameters | undefined, sumToOne: boolean): tf.Tensor => {
    const features = applyFeatureMap(x, featureMap, parameters);
    return sumToOne ? sumNormalise(features) : features;
  };
  const q = tf.mul(side(query, featureParameters?.query, normaliseQuery), scale) as tf.Tensor4D;
  let k: tf.Tensor4D;
  let logDecay: tf.Tensor4D | undefined;
  let logNormaliser: tf.Tensor3D | undefined;
  if (featureMap.name === 'efficient') {
    const logits = keep ? tf.add(tf.mul(key, keep), tf.mul(tf.sub(1, keep), EMPTY_LOG)) : key;
    if (pattern === 'causal-self') {
      const running = runningSoftmax(logits as tf.Tensor4D, state?.logNormaliser);
      ({ key: k, logDecay, logNormaliser } = running);
    } else {
      const over = tf.softmax(tf.transpose(logits, [0, 2, 3, 1])); // softmax over the sequence
      k = tf.transpose(over, [0, 3, 1, 2]) as tf.Tensor4D;
    }
  } else k = side(key, featureParameters?.key, normaliseKey) as tf.Tensor4D;
  // features of padding are zeroed after the map: phi(0) is not 0
  if (keep) k = tf.mul(k, keep);
  const [batch, keys, heads] = value.shape as [number, number, number];
  const v = normalise ? tf.concat([value, tf.ones([batch, keys, heads, 1])], 3) : value;
  const sums = runForm({ query: q, key: k, value: v as tf.Tensor4D, memory: state?.memory as tf.Tensor4D | undefined }, settings, logDecay);
  return {
    output: normalise ? divide(sums.output, settings.epsilon) : sums.output,
    state: { memory: sums.memory, ...(logNormaliser ? { logNormaliser } : {}) },
  };
}

function runForm(features: Features, settings: ResolvedSettings, logDecay: tf.Tensor4D | undefined): Sums {
  const { form, chunkSize, pattern } = settings;
  if (form === 'parallel') return parallelForm(features, visibilityOf(settings));
  const run = (aligned: Features): Sums => (form === 'chunk' ? chunkForm(aligned, chunkSize, logDecay) : recurrentForm(aligned, logDecay));
  return pattern === 'causal-cross' ? inLockstep(features, run) : run(features);
}

function visibilityOf({ pattern, visible }: ResolvedSettings): Visibility {
  if (pattern.startsWith('noncausal')) return 'all';
  return visible ? (tf.cast(visible, 'float32') as tf.Tensor2D) : 'causal';
}

// query i sees key i and those before: the shorter side is filled up with tokens that neither read nor write
function inLockstep(features: Features, run: (aligned: Features) => Sums): Sums {
  const length = features.query.shape[1];
  const keys = features.key.shape[1];
  const whole = Math.max(length, keys);
  const fill = (tensor: tf.Tensor4D): tf.Tensor4D => {
    const [batch, have, heads, width] = tensor.shape;
    return have === whole ? tensor : (tf.concat([tensor, tf.zeros([batch, whole - have, heads, width])], 1) as tf.Tensor4D);
  };
  const sums = run({ ...features, query: fill(features.query), key: fill(features.key), value: fill(features.value) });
  const [batch, , heads, width] = sums.output.shape;
  return { output: tf.slice(sums.output, [0, 0, 0, 0], [batch, length, heads, width]), memory: sums.memory };
}

// the last channel is the denominator
function divide(sums: tf.Tensor4D, epsilon: number): tf.Tensor4D {
  const width = sums.shape[3] - 1;
  const [numerator, denominator] = tf.split(sums, [width, 1], 3) as [tf.Tensor4D, tf.Tensor4D];
  return tf.div(numerator, tf.add(denominator, epsilon));
}
