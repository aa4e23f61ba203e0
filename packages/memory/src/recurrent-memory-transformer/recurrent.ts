import * as tf from '@tensorflow/tfjs-core';
import { stopGradient } from '@seqloom/core';
import type { RecurrentMemorySettings } from './recurrent-memory-transformer.ts';

/** The recurrent form, segment by segment: `H = cell([M; X; M])`, the output is H at X, the next M is H at the second M. */
export function recurrentForm(
  { input, memory }: { input: tf.Tensor3D; memory: tf.Tensor3D },
  { cell, segmentLength, align = 'left', encoder = false, bpttDepth = null }: RecurrentMemorySettings,
): { output: tf.Tensor3D; memory: tf.Tensor3D } {
  const [batch, length, dim] = input.shape;
  const slots = memory.shape[1];
  const outputs: tf.Tensor3D[] = [];
  let held = memory;
  let count = align === 'right' && length % segmentLength > 0 ? length % segmentLength : Math.min(segmentLength, length);
  for (let at = 0, segment = 0; at < length; segment++) {
    if (bpttDepth !== null && segment > 0 && segment % bpttDepth === 0) held = stopGradient(held);
    const tokens = tf.slice(input, [0, at, 0], [batch, count, dim]);
    const rows = slots === 0 ? tokens : tf.concat(encoder ? [held, tokens] : [held, tokens, held], 1); // [B, m + L (+ m), D]
    const hidden = cell(rows);
    outputs.push(tf.slice(hidden, [0, slots, 0], [batch, count, dim]));
    held = tf.slice(hidden, [0, encoder ? 0 : slots + count, 0], [batch, slots, dim]);
    at += count;
    count = Math.min(segmentLength, length - at);
  }
  return { output: tf.concat(outputs, 1), memory: held };
}
