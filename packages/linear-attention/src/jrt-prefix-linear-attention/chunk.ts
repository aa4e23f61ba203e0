import * as tf from '@tensorflow/tfjs-core';
import { keepValid } from '@seqloom/core';
import { taylorAttention } from '../based-taylor/op.ts';
import { taylorFeatures } from '../linear-attention/taylor-features.ts';
import type { PrefixCall } from './jrt-prefix-linear-attention.ts';

/** Output [B, T, Hq, V] and memory [B, H, F, V + 1]. */
export type PrefixResult = { output: tf.Tensor4D; memory: tf.Tensor4D };

/** The chunked form: the sums of the prefix are the state in which the `LinearAttention` kernel starts. */
export function chunkForm(call: PrefixCall): PrefixResult {
  return startingFromPrefix(call, 'chunk');
}

/** Adds the prefix to the state, then runs a causal form of BASED. */
export function startingFromPrefix(call: PrefixCall, form: 'chunk' | 'recurrent'): PrefixResult {
  const { query, key, value, mask, symmetric, epsilon, chunkSize } = call;
  const memory = encode(call);
  const { output, state } = taylorAttention(
    { query, key, value },
    { symmetric, epsilon, chunkSize, form, ...(mask ? { mask } : {}), ...(memory ? { state: { memory } } : {}) },
  );
  return { output, memory: state.memory as tf.Tensor4D };
}

// S + S^e with z + z^e as last column, [B, H, F, V + 1]
function encode({ prefix, memory, symmetric }: PrefixCall): tf.Tensor4D | null {
  if (!prefix) return memory;
  const [batch, length, heads] = prefix.value.shape;
  const features = keepValid(taylorFeatures(prefix.key, symmetric), prefix.mask);
  const columns = tf.concat([prefix.value, tf.ones([batch, length, heads, 1])], 3);
  const written = tf.matMul(tf.transpose(features, [0, 2, 3, 1]), tf.transpose(columns, [0, 2, 1, 3])) as tf.Tensor4D;
  return memory ? tf.add(memory, written) : written;
}
