import * as tf from '@tensorflow/tfjs-core';
import { alignedPositions, rollingAttention, rotaryEmbedding } from '@seqloom/attention';
import { softmaxAttention } from '@seqloom/core';
import type { MixInput, State } from '@seqloom/core';

/** Query, key and value [B, T, H, D]. */
export interface Heads {
  readonly query: tf.Tensor;
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
}

/**
 * The local heads beside routed ones: a sliding window, with a rolling cache when causal, on both sides when not.
 *
 * @param heads before rotation
 * @param input the piece, whose state holds the cache
 * @returns output [B, T, H, D] and, when causal, the new cache
 */
export function localAttention(
  heads: Heads,
  { x, state, valid, lengths }: MixInput,
  options: { readonly window: number; readonly rotary: { readonly base: number } | null; readonly causal: boolean },
): { output: tf.Tensor; state?: State } {
  const { window, rotary, causal } = options;
  const [batch, length] = x.shape;
  const positions = rotary && tf.add(tf.reshape(state.position, [batch, 1]), tf.range(0, length, 1, 'float32'));
  const turned = { ...heads, ...(rotary && positions ? rotaryEmbedding({ ...heads, positions }, rotary) : {}) };
  if (causal) return rollingAttention(turned, state, { window, valid, lengths });
  const keyPositions = valid ? alignedPositions(valid) : undefined;
  return { output: softmaxAttention({ ...turned, keyPositions }, { window, aligned: true }).output };
}
