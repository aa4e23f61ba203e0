import * as tf from '@tensorflow/tfjs-core';
import { softmaxAttention } from '@seqloom/core';
import type { LatentAttentionInputs, LatentSizes } from './multi-head-latent-attention.ts';

/**
 * The absorbed form: the maps of keys go into the queries and those of values behind the attention, so that all heads read the latents
 * themselves, as multi-query attention with one key head of width C + Dr and values of width C.
 *
 * @param inputs checked
 * @returns output [B, T, H, Dv]
 */
export function absorbedForm(
  { query, latent, rotaryKey, keyValueUp, keyPositions }: LatentAttentionInputs,
  { latentDim, contentDim, rotaryDim, valueHeadDim }: LatentSizes,
  options: { readonly causal: boolean; readonly scale: number },
): tf.Tensor4D {
  const [batch, length, heads] = query.shape as [number, number, number];
  const [content, rotated] = rotaryKey ? (tf.split(query, [contentDim, rotaryDim], 3) as [tf.Tensor, tf.Tensor]) : [query];
  const [keyUp, valueUp] = tf.split(keyValueUp, [contentDim, valueHeadDim], 2) as [tf.Tensor, tf.Tensor];
  // one product per head: [H, B T, from] x [H, from, to]
  const perHead = (x: tf.Tensor, maps: tf.Tensor, to: number): tf.Tensor => {
    const rows = tf.transpose(tf.reshape(x, [batch * length, heads, -1]), [1, 0, 2]);
    return tf.reshape(tf.transpose(tf.matMul(rows, maps), [1, 0, 2]), [batch, length, heads, to]);
  };
  const absorbed = perHead(content, tf.transpose(keyUp, [1, 2, 0]), latentDim); // [B, T, H, C]
  const value = tf.expandDims(latent, 2); // [B, S, 1, C]
  const { output } = softmaxAttention(
    {
      query: rotated ? tf.concat([absorbed, rotated], 3) : absorbed,
      key: rotaryKey ? tf.expandDims(tf.concat([latent, rotaryKey], 2), 2) : value,
      value,
      ...(keyPositions ? { keyPositions } : {}),
    },
    { ...options, aligned: true },
  );
  return perHead(output, tf.transpose(valueUp, [1, 0, 2]), valueHeadDim) as tf.Tensor4D;
}
