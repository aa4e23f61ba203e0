import * as tf from '@tensorflow/tfjs-core';
import { affine, attendHeads, layerNorm } from '../dense.ts';
import type { Lm2UpdateParameters, Lm2WriteParameters } from './parameters.ts';

/** A segment is written: slots attend to its tokens [B, L, D], and the bank [B, N, D] is updated. */
export function writeBank(tokens: tf.Tensor3D, memory: tf.Tensor3D, parameters: Lm2WriteParameters, heads: number): tf.Tensor3D {
  const query = affine(memory, parameters.query);
  const attended = attendHeads(query, affine(tokens, parameters.key), affine(tokens, parameters.value), heads);
  return gateBank(memory, refineSlots(memory, attended, parameters), tokens, parameters);
}

/** `M1 = norm(M + A)`, `M2 = norm(M1 + relu(relu(M1 W) W))`. */
export function refineSlots(memory: tf.Tensor, attended: tf.Tensor, parameters: Lm2UpdateParameters): tf.Tensor {
  const first = layerNorm(tf.add(memory, attended), parameters.attendedNorm);
  const inner = tf.relu(affine(first, parameters.channel));
  return layerNorm(tf.add(first, tf.relu(affine(inner, parameters.channel))), parameters.channelNorm);
}

/** `M' = i tanh(M2) + f M` with gates from the pooled tokens and from tanh(M). */
export function gateBank(memory: tf.Tensor, candidate: tf.Tensor, tokens: tf.Tensor, parameters: Lm2UpdateParameters): tf.Tensor3D {
  const pooled = tf.mean(tf.relu(tf.mul(tokens, parameters.inputScale)), 1, true); // [B, 1, D]
  const gates = tf.add(affine(pooled, parameters.inputGate), affine(tf.tanh(memory), parameters.memoryGate)); // [B, N, 2 D]
  const [input, forget] = tf.split(gates, 2, 2) as [tf.Tensor, tf.Tensor];
  const taken = tf.mul(tf.sigmoid(tf.add(input, parameters.inputBias)), tf.tanh(candidate));
  return tf.add(taken, tf.mul(tf.sigmoid(tf.add(forget, parameters.forgetBias)), memory)) as tf.Tensor3D;
}
