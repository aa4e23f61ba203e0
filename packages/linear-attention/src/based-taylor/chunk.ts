import type * as tf from '@tensorflow/tfjs-core';
import { linearAttention } from '../linear-attention/op.ts';
import type { LinearAttentionResult } from '../linear-attention/op.ts';
import type { LinearAttentionSettings, LinearAttentionTensors } from '../linear-attention/settings.ts';

/** What both recurrent forms share: everything of the op but the feature map. */
export type TaylorCall = Omit<LinearAttentionSettings, 'featureMap' | 'featureParameters' | 'form'> & { readonly mask?: tf.Tensor };

/** The chunked form: second-order features through the `LinearAttention` kernel, `chunkSize` tokens at a time. */
export function chunkForm(tensors: LinearAttentionTensors, call: TaylorCall, symmetric: boolean): LinearAttentionResult {
  return linearAttention(tensors, { ...call, featureMap: { name: 'taylor2', symmetric }, form: 'chunk' });
}
