import { linearAttentionUpdate } from '@seqloom/core';
import type { Features, Sums } from './parallel.ts';
import type * as tf from '@tensorflow/tfjs-core';

/**
 * The chunked form, per chunk with memory S before it: `O = Q S + tril(Q K^T) V`, `S <- S + K^T V`.
 *
 * @param chunkSize tokens per chunk; a matter of speed
 * @param logDecay log of what every feature of the memory keeps at a token, [B, T, H, F]; absent: all
 */
export function chunkForm({ query, key, value, memory }: Features, chunkSize: number, logDecay?: tf.Tensor4D): Sums {
  const updateRule = logDecay ? 'gated' : 'linear';
  const { output, state } = linearAttentionUpdate({ query, key, value, logDecay, state: memory }, { updateRule, scale: 1, chunkSize });
  return { output, memory: state };
}
