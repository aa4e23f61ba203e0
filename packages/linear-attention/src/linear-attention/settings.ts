import * as tf from '@tensorflow/tfjs-core';
import { fail } from '@seqloom/core';
import type { Pattern } from '@seqloom/core';
import { featureDimOf, isLearned, isSigned } from './feature-maps.ts';
import type { FeatureMap, FeatureParameters } from './feature-maps.ts';

/** Tensors that `linearAttention` reads, all float32. */
export interface LinearAttentionTensors {
  /** [B, T, Hq, K] */
  readonly query: tf.Tensor;
  /** [B, S, H, K]; Hq is a multiple of H */
  readonly key: tf.Tensor;
  /** [B, S, H, Dv] */
  readonly value: tf.Tensor;
}

/** What linear attention carries from piece to piece. */
export interface LinearAttentionState {
  readonly [name: string]: tf.Tensor;
  /** sum of phi(k) v^T with the normaliser z as last column where outputs are normalised, [B, H, F, Dv (+ 1)] */
  readonly memory: tf.Tensor;
}

/** Settings of `linearAttention`; everything has a default. */
export interface LinearAttentionSettings {
  /** default elu1 */
  readonly featureMap?: FeatureMap;
  /** learned tensors of t2r, hadamard and hedgehog, per side */
  readonly featureParameters?: { readonly query: FeatureParameters; readonly key: FeatureParameters };
  /** divide by phi(q) z; default: true for maps with a non-negative kernel, false for the signed ones and for `efficient` */
  readonly normalise?: boolean;
  /** added to the denominator, default 1e-6 */
  readonly epsilon?: number;
  /** factor on phi(q); default 1 where normalised, F^-0.5 where not (for `efficient` 1) */
  readonly scale?: number;
  /** divide phi(q) by its sum, default false */
  readonly normaliseQuery?: boolean;
  /** divide phi(k) by its sum, default false */
  readonly normaliseKey?: boolean;
  /** default causal-self */
  readonly pattern?: Pattern;
  /** default chunk for causal patterns, parallel for noncausal ones (their only form) */
  readonly form?: 'parallel' | 'chunk' | 'recurrent';
  /** tokens per chunk, default 64 */
  readonly chunkSize?: number;
  /** state of an earlier call; for causal-self */
  readonly state?: LinearAttentionState;
  /** over the keys, [B, S], 1 for tokens and 0 for padding; what stands at padding must be finite */
  readonly mask?: tf.Tensor;
  /** for causal-cross in the parallel form: number of keys that each query sees, [B, T]; default: query i sees keys 0 to i */
  readonly visible?: tf.Tensor;
}

/** Settings with defaults filled in and checked against the tensors. */
export interface ResolvedSettings extends LinearAttentionSettings {
  readonly featureMap: FeatureMap;
  readonly normalise: boolean;
  readonly epsilon: number;
  readonly scale: number;
  readonly normaliseQuery: boolean;
  readonly normaliseKey: boolean;
  readonly pattern: Pattern;
  readonly form: 'parallel' | 'chunk' | 'recurrent';
  readonly chunkSize: number;
}

const MECHANISM = 'linear-attention';

/** Fills in the defaults, and refuses what does not go together. */
export function resolveSettings(
  tensors: LinearAttentionTensors,
  settings: LinearAttentionSettings,
  mechanism = MECHANISM,
): ResolvedSettings {
  const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
    fail({ mechanism, argument, wanted, given, remedy });
  const { query, key, value } = tensors;
  for (const [name, tensor] of Object.entries({ query, key, value })) {
    if (!(tensor instanceof tf.Tensor) || tensor.rank !== 4 || tensor.dtype !== 'float32' || tensor.size === 0) {
      refuse(name, 'a float32 tensor [B, T, H, D] with at least one token', text(tensor), 'Lay it out as batch, time, heads, channels.');
    }
  }
  const [batch, length, queryHeads, keyDim] = query.shape as [number, number, number, number];
  const [, keys, heads] = key.shape as [number, number, number];
  const {
    featureMap = { name: 'elu1' } as FeatureMap,
    pattern = 'causal-self',
    epsilon = 1e-6,
    normaliseQuery = false,
    normaliseKey = false,
    chunkSize = 64,
    state,
    mask,
    visible,
  } = settings;
  const fits = (name: string, tensor: tf.Tensor, shape: readonly number[]): void => {
    if (!tf.util.arraysEqual(tensor.shape, [...shape])) {
      refuse(name, `of shape [${shape.join(', ')}]`, `[${tensor.shape.join(', ')}]`, 'Make its shape fit query, key and value.');
    }
  };
  fits('key', key, [batch, pattern.endsWith('self') ? length : keys, heads, keyDim]);
  fits('value', value, [batch, keys, heads, value.shape[3]!]);
  if (queryHeads % heads !== 0) refuse('query', `of a multiple of ${heads} heads`, `${queryHeads} heads`, 'Group query heads evenly.');
  if (mask) fits('mask', mask, [batch, keys]);
  const efficient = featureMap.name === 'efficient';
  const normalise = settings.normalise ?? (!isSigned(featureMap) && !efficient);
  if ((normalise || normaliseQuery || normaliseKey) && (isSigned(featureMap) || efficient)) {
    const given = efficient ? 'efficient, which is normalised by itself' : `${featureMap.name}, whose sums can cross zero`;
    refuse('normalise', 'false for this feature map', given, 'Leave it out and use an output norm.');
  }
  const features = featureDimOf(featureMap, keyDim);
  const scale = settings.scale ?? (normalise || efficient ? 1 : features ** -0.5);
  if (isLearned(featureMap) && !settings.featureParameters) {
    refuse('featureParameters', `given for ${featureMap.name}`, 'none', 'Pass weight and bias for query and key.');
  }
  for (const [name, number, positive] of [
    ['epsilon', epsilon, true],
    ['scale', scale, false],
    ['chunkSize', chunkSize, true],
  ] as const) {
    const right = Number.isFinite(number) && (!positive || number > 0) && (name !== 'chunkSize' || Number.isInteger(number));
    if (!right) refuse(name, positive ? 'above 0 and finite' : 'finite', String(number), 'Leave it out for the default.');
  }
  const noncausal = pattern.startsWith('noncausal');
  const form = settings.form ?? (noncausal || visible ? 'parallel' : 'chunk');
  if (noncausal && form !== 'parallel') {
    refuse('form', `parallel for the pattern ${pattern}`, form, 'Leave it out: two products are all there is to do.');
  }
  if (efficient && pattern === 'causal-self' && form === 'parallel') {
    refuse('form', 'chunk or recurrent for the causal efficient map', form, 'Its running normaliser is a recurrence.');
  }
  if (efficient && pattern === 'causal-cross') refuse('pattern', 'another one for the efficient map', pattern, 'Use causal-self.');
  if (visible) {
    if (pattern !== 'causal-cross' || form !== 'parallel') {
      refuse('visible', 'left out but for causal-cross in the parallel form', `given for ${pattern}, ${form}`, 'Leave it out.');
    }
    fits('visible', visible, [batch, length]);
  }
  if (state) {
    if (pattern !== 'causal-self') refuse('state', `left out for the pattern ${pattern}`, 'a state', 'Pass all keys at once.');
    fits('state.memory', state.memory, [batch, heads, features, value.shape[3]! + (normalise ? 1 : 0)]);
    if (efficient && !state.logNormaliser) refuse('state.logNormaliser', 'given for efficient', 'none', 'Pass the state as returned.');
    if (efficient) fits('state.logNormaliser', state.logNormaliser!, [batch, heads, features]);
  }
  return { ...settings, featureMap, normalise, epsilon, scale, normaliseQuery, normaliseKey, pattern, form, chunkSize };
}

function text(value: unknown): string {
  return value instanceof tf.Tensor ? `${value.dtype} [${value.shape.join(', ')}]` : typeof value;
}
