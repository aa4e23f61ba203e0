/**
 * Linear attention, the specification in double precision.
 *
 * Glossary (Katharopoulos et al. 2020, section 3; one head, rows are tokens)
 *   query, key, value   Q, K, V        [B, T, H, D], [B, S, H, D], [B, S, H, M]
 *   phi                 phi(x)         feature map on the head dimension, F features
 *   S                   S_i            sum over seen j of phi(k_j) v_j^T, equation 10
 *   z                   Z_i            sum over seen j of phi(k_j), equation 11
 *   output              V'_i           S_i^T phi(q_i) / (phi(q_i) Z_i + epsilon), equation 12
 *   memory              [S, z]         z is the last column where outputs are normalised
 */
import type { FeatureMap } from './feature-maps.ts';
import { naiveFeatureMap } from './naive-feature-maps.ts';
import type { Array64 } from '@seqloom/core';
import type { FeatureParameters64 } from './naive-feature-maps.ts';

/** Inputs of `naiveLinearAttention`. */
export interface NaiveInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  /** [B, S], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** [B, H, F, V], with the normaliser as last column where outputs are normalised */
  readonly memory?: Array64;
  readonly featureParameters?: { readonly query: FeatureParameters64; readonly key: FeatureParameters64 };
}

/** Settings of `naiveLinearAttention`, all explicit. */
export interface NaiveSettings {
  readonly featureMap: FeatureMap;
  readonly normalise: boolean;
  readonly epsilon: number;
  readonly scale: number;
  readonly normaliseQuery?: boolean;
  readonly normaliseKey?: boolean;
  /** number of keys that query i of row b sees */
  readonly visible: (row: number, i: number) => number;
}

/** Output [B, T, Hq, M] and memory over all keys [B, H, F, M or M + 1]. */
export function naiveLinearAttention(inputs: NaiveInputs, settings: NaiveSettings): { output: Array64; memory: Array64 } {
  const { query, key, value, mask, memory } = inputs;
  const [batch, length, queryHeads, keyDim] = query.shape as [number, number, number, number];
  const [, keys, heads] = key.shape as [number, number, number];
  const valueDim = value.shape[3]!;
  const phi = (x: Float64Array, side: 'query' | 'key'): number[] => {
    const features = naiveFeatureMap(Array.from(x), settings.featureMap, inputs.featureParameters?.[side]);
    if (!(side === 'query' ? settings.normaliseQuery : settings.normaliseKey)) return features;
    const sum = features.reduce((a, b) => a + b, 0);
    return features.map((feature) => feature / (sum + 1e-4));
  };
  const width = valueDim + (settings.normalise ? 1 : 0);
  const output: Array64 = { shape: [batch, length, queryHeads, valueDim], data: new Float64Array(batch * length * queryHeads * valueDim) };
  let after = new Float64Array();
  const features = phi(new Float64Array(keyDim), 'key').length;
  after = new Float64Array(batch * heads * features * width);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < queryHeads; h++) {
      const stateHead = Math.floor((h * heads) / queryHeads);
      const start = (b * heads + stateHead) * features * width;
      const mapped = Array.from({ length: keys }, (_, j) => phi(slice(key, b, j, stateHead), 'key'));
      // [S, z] over the first `count` keys
      const sums = (count: number): Float64Array => {
        const S = memory ? memory.data.slice(start, start + features * width) : new Float64Array(features * width);
        for (let j = 0; j < Math.min(count, keys); j++) {
          if (mask && mask.data[b * keys + j] === 0) continue;
          const v = [...slice(value, b, j, stateHead), ...(settings.normalise ? [1] : [])];
          for (let f = 0; f < features; f++) for (let e = 0; e < width; e++) S[f * width + e]! += mapped[j]![f]! * v[e]!;
        }
        return S;
      };
      for (let i = 0; i < length; i++) {
        const S = sums(settings.visible(b, i));
        const q = phi(slice(query, b, i, h), 'query').map((feature) => settings.scale * feature);
        const read = Array.from({ length: width }, (_, e) => q.reduce((sum, feature, f) => sum + feature * S[f * width + e]!, 0));
        const denominator = settings.normalise ? read[valueDim]! + settings.epsilon : 1;
        for (let e = 0; e < valueDim; e++) output.data[((b * length + i) * queryHeads + h) * valueDim + e] = read[e]! / denominator;
      }
      after.set(sums(keys), start);
    }
  }
  return { output, memory: { shape: [batch, heads, features, width], data: after } };
}

function slice(array: Array64, b: number, t: number, h: number): Float64Array {
  const [, length, heads, width] = array.shape as [number, number, number, number];
  const start = ((b * length + t) * heads + h) * width;
  return array.data.subarray(start, start + width);
}
