import * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention } from '@seqloom/core';
import type { LatentAttentionInputs, LatentSizes } from './multi-head-latent-attention.ts';

/**
 * The expanded form: keys and values of every head are made of the latents, then it is multi-head attention.
 *
 * @param inputs checked
 * @returns output [B, T, H, Dv]
 */
export function expandedForm(
  { query, latent, rotaryKey, keyValueUp, keyPositions }: LatentAttentionInputs,
  { contentDim, rotaryDim, valueHeadDim }: LatentSizes,
  options: { readonly causal: boolean; readonly scale: number },
): tf.Tensor4D {
  const [batch, length, width] = latent.shape as [number, number, number];
  const heads = keyValueUp.shape[1]!;
  const flat = tf.matMul(tf.reshape(latent, [batch * length, width]), tf.reshape(keyValueUp, [width, -1]) as tf.Tensor2D);
  const both = tf.reshape(flat, [batch, length, heads, contentDim + valueHeadDim]); // [B, S, H, Dn + Dv]
  const [content, value] = tf.split(both, [contentDim, valueHeadDim], 3) as [tf.Tensor, tf.Tensor];
  const zeros = (): tf.Tensor => tf.zeros([batch, length, heads, rotaryDim]);
  const key = rotaryKey ? tf.concat([content, tf.add(zeros(), tf.expandDims(rotaryKey, 2))], 3) : content; // [B, S, H, Dn + Dr]
  return softmaxAttention({ query, key, value, ...(keyPositions ? { keyPositions } : {}) }, { ...options, aligned: true }).output;
}
