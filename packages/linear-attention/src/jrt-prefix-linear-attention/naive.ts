/**
 * Prefix linear attention (JRT-RNN), the specification in double precision.
 *
 * Glossary (Arora et al. 2024, section 4; one head, rows are tokens)
 *   query, key, value         q_i, k_i, v_i    [B, T, Hq, d], [B, T, H, d], [B, T, H, V], the decoder's
 *   prefixKey, prefixValue    k^e_j, v^e_j     [B, M, H, d], [B, M, H, V], the encoder's
 *   phi                       phi(x)           [1, x / d^(1/4), (x outer x) / (sqrt(2) sqrt(d))]
 *   encoder                   S^e, z^e         sum over the prefix of phi(k^e_j) [v^e_j, 1]^T
 *   memory                    S, z             the state before, plus S^e, z^e, plus the sum of phi(k_j) [v_j, 1]^T so far
 *   output                    o_i              phi(q_i) S / (phi(q_i) z + epsilon)
 */
import { naiveFeatureMap } from '../linear-attention/naive-feature-maps.ts';
import type { Array64 } from '@seqloom/core';

/** Inputs of `naivePrefixLinearAttention`. */
export interface NaivePrefixInputs {
  readonly query: Array64;
  readonly key: Array64;
  readonly value: Array64;
  readonly prefixKey?: Array64;
  readonly prefixValue?: Array64;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: Array64;
  /** [B, M] */
  readonly prefixMask?: Array64;
  /** [B, H, F, V + 1] */
  readonly memory?: Array64;
}

/** Settings of `naivePrefixLinearAttention`, all explicit. */
export interface NaivePrefixSettings {
  readonly epsilon: number;
  readonly symmetric: boolean;
  /** whether padding is left out after the feature map, or its key is zeroed before it */
  readonly maskKeys: 'after' | 'before';
}

/** Output [B, T, Hq, V] and memory [B, H, F, V + 1]. */
export function naivePrefixLinearAttention(
  inputs: NaivePrefixInputs,
  { epsilon, symmetric, maskKeys }: NaivePrefixSettings,
): { output: Array64; memory: Array64 } {
  const { query, key, value, prefixKey, prefixValue, mask, prefixMask } = inputs;
  const [batch, length, queryHeads] = query.shape as [number, number, number];
  const [heads, valueDim] = value.shape.slice(2) as [number, number];
  const phi = (x: Float64Array): number[] => naiveFeatureMap(Array.from(x), { name: 'taylor2', symmetric });
  const features = phi(new Float64Array(query.shape[3]!)).length;
  const columns = valueDim + 1;
  const memory = inputs.memory ? Float64Array.from(inputs.memory.data) : new Float64Array(batch * heads * features * columns);
  const output = new Float64Array(batch * length * queryHeads * valueDim);
  const write = (keys: Array64, values: Array64, live: Array64 | undefined, b: number, j: number, h: number): void => {
    const seen = !live || live.data[b * keys.shape[1]! + j] !== 0;
    if (!seen && maskKeys === 'after') return;
    const k = seen ? at(keys, b, j, h) : new Float64Array(keys.shape[3]!);
    const v = [...at(values, b, j, h), 1];
    phi(k).forEach((feature, f) =>
      v.forEach((channel, e) => (memory[((b * heads + h) * features + f) * columns + e]! += feature * channel)),
    );
  };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      if (prefixKey && prefixValue) for (let j = 0; j < prefixKey.shape[1]!; j++) write(prefixKey, prefixValue, prefixMask, b, j, h);
      for (let i = 0; i < length; i++) {
        write(key, value, mask, b, i, h);
        // the query heads that read this state head
        for (let q = (h * queryHeads) / heads; q < ((h + 1) * queryHeads) / heads; q++) {
          const sums = new Float64Array(columns);
          phi(at(query, b, i, q)).forEach((feature, f) => {
            for (let e = 0; e < columns; e++) sums[e]! += feature * memory[((b * heads + h) * features + f) * columns + e]!;
          });
          for (let e = 0; e < valueDim; e++)
            output[((b * length + i) * queryHeads + q) * valueDim + e] = sums[e]! / (sums[valueDim]! + epsilon);
        }
      }
    }
  }
  return {
    output: { shape: [batch, length, queryHeads, valueDim], data: output },
    memory: { shape: [batch, heads, features, columns], data: memory },
  };
}

function at(array: Array64, b: number, t: number, h: number): Float64Array {
  const [, time, count, channels] = array.shape as [number, number, number, number];
  const start = ((b * time + t) * count + h) * channels;
  return array.data.subarray(start, start + channels);
}
