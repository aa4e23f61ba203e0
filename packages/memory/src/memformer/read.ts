import type * as tf from '@tensorflow/tfjs-core';
import { affine, attendHeads } from '../dense.ts';
import type { AttentionTensors } from './parameters.ts';

/** Tokens [B, T, D] read the memory [B, N, D]: `softmax(x W_Q (M W_K)^T / sqrt(d)) M W_V W_O`. */
export function readMemory(tokens: tf.Tensor, memory: tf.Tensor, parameters: AttentionTensors, heads: number): tf.Tensor3D {
  const query = affine(tokens, parameters.query);
  const read = attendHeads(query, affine(memory, parameters.key), affine(memory, parameters.value), heads);
  return affine(read, parameters.output) as tf.Tensor3D;
}
