import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'recurrent-memory-transformer';

/** Settings of `recurrentMemory`. */
export interface RecurrentMemorySettings {
  /** the stack that runs on one segment with its memory: [B, N, D] to [B, N, D], any number of tokens N */
  readonly cell: (rows: tf.Tensor3D) => tf.Tensor3D;
  /** L, tokens of a segment, memory not counted */
  readonly segmentLength: number;
  /** a short segment stands at the end (left, the default) or at the start (right) */
  readonly align?: 'left' | 'right';
  /** for noncausal cells: memory stands in front only, and what comes out there is the next memory; default false */
  readonly encoder?: boolean;
  /** gradients reach back over this many segments at most; default null, all */
  readonly bpttDepth?: number | null;
}

/**
 * Recurrent memory around any stack: memory vectors stand before (read) and behind (write) each segment, and what the stack gives at the
 * second place is the next segment's memory. `[., O, M'] = cell([M; X; M])`.
 *
 * @param inputs input [B, T, D] and memory [B, m, D] before the first segment (m may be 0), float32
 * @param settings cell, segmentLength and the rest; see `RecurrentMemorySettings`
 * @returns output [B, T, D] and the state after the last segment, `memory` [B, m, D]; both are the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see "Recurrent Memory Transformer" (Bulatov et al. 2022, arXiv 2207.06881)
 */
export function recurrentMemory(
  inputs: { readonly input: tf.Tensor; readonly memory: tf.Tensor },
  settings: RecurrentMemorySettings,
): { output: tf.Tensor3D; state: { memory: tf.Tensor3D } } {
  const { input, memory } = inputs;
  const { segmentLength, bpttDepth = null } = settings;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['B', 'T', 'D'], extents);
  checkTensor(MECHANISM, 'memory', memory, ['B', 'm?', 'D'], extents);
  const whole = (value: number): boolean => Number.isInteger(value) && value >= 1;
  const remedy = 'See RecurrentMemorySettings.';
  checkSetting(MECHANISM, 'segmentLength', whole(segmentLength), 'a whole number of at least 1', segmentLength, remedy);
  checkSetting(MECHANISM, 'bpttDepth', bpttDepth === null || whole(bpttDepth), 'null or a whole number of at least 1', bpttDepth, remedy);
  return tidy(() => {
    const result = recurrentForm({ input: input as tf.Tensor3D, memory: memory as tf.Tensor3D }, settings);
    return { output: result.output, state: { memory: result.memory } };
  });
}
