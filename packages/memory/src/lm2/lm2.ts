import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Lm2ReadParameters, Lm2WriteParameters } from './parameters.ts';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'lm2';

/** Learned tensors of `lm2Memory`. */
export interface Lm2Parameters {
  readonly read: Lm2ReadParameters;
  readonly write: Lm2WriteParameters;
}

/** Settings of `lm2Memory`. */
export interface Lm2Settings {
  /** attention heads of read and write, a divisor of D */
  readonly heads: number;
  /** L, tokens after which the bank is written */
  readonly segmentLength: number;
  /** slots per token and head whose weight counts; default null, all */
  readonly topK?: number | null;
}

/**
 * LM2's memory, causal: tokens of a segment read the bank through attention and an output gate, `o = sigma(R W_out) R`; a full segment
 * updates it, `M' = i tanh(M2) + f M`, for the segments after it.
 *
 * @param inputs input [B, T, D] from the start of a segment, memory [B, N, D], float32
 * @param parameters learned tensors of read and write
 * @param settings heads, segmentLength, topK
 * @returns output [B, T, D], to be added to the residual stream, and the state after the last full segment, `memory` [B, N, D]; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see "LM2: Large Memory Models" (Kang et al. 2025, arXiv 2502.06049)
 */
export function lm2Memory(
  inputs: { readonly input: tf.Tensor; readonly memory: tf.Tensor },
  parameters: Lm2Parameters,
  settings: Lm2Settings,
): { output: tf.Tensor3D; state: { memory: tf.Tensor3D } } {
  const { input, memory } = inputs;
  const { heads, segmentLength, topK = null } = settings;
  const extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['B', 'T', 'D'], extents);
  checkTensor(MECHANISM, 'memory', memory, ['B', 'N', 'D'], extents);
  const [dim, slots] = [extents.get('D')!, extents.get('N')!];
  const whole = (value: number, most = Infinity): boolean => Number.isInteger(value) && value >= 1 && value <= most;
  checkSetting(MECHANISM, 'heads', whole(heads) && dim % heads === 0, `a divisor of ${dim}`, heads, 'Channels are cut into heads.');
  checkSetting(MECHANISM, 'segmentLength', whole(segmentLength), 'a whole number of at least 1', segmentLength, 'It counts tokens.');
  checkSetting(MECHANISM, 'topK', topK === null || whole(topK, slots), `null or 1 to ${slots}`, topK, 'It counts slots.');
  return tidy(() => {
    const result = recurrentForm({ input: input as tf.Tensor3D, memory: memory as tf.Tensor3D }, parameters, settings);
    return { output: result.output, state: { memory: result.memory } };
  });
}
