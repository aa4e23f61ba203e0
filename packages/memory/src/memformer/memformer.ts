import type * as tf from '@tensorflow/tfjs-core';
import { checkSetting, checkTensor, tidy } from '@seqloom/core';
import type { Extents } from '@seqloom/core';
import type { MemformerParameters } from './parameters.ts';
import { recurrentForm } from './recurrent.ts';

const MECHANISM = 'memformer';

/** Settings of `memformerMemory`. */
export interface MemformerSettings {
  /** attention heads of read and write, a divisor of D */
  readonly heads: number;
  /** L, tokens after which the memory is written */
  readonly segmentLength: number;
  /** tau of the paper's writer, default 0.25 */
  readonly temperature?: number;
  /** times that the reference's writer runs per segment, default 1 */
  readonly updates?: number;
}

/**
 * Memformer's memory, causal: tokens of a segment read it through attention; a full segment is then written by slot attention, in which
 * each slot attends to itself and to the tokens, and by biased normalisation, `m <- (A + v) / |A + v|` (or by a gated recurrent unit).
 *
 * @param inputs input [B, T, D] from the start of a segment, memory [B, N, D], float32
 * @param parameters learned tensors of reader and writer; those of the writer choose it
 * @param settings heads, segmentLength, temperature, updates
 * @returns output [B, T, D], to be added to the residual stream, and the state after the last full segment, `memory` [B, N, D]; the caller's
 * @throws SeqLoomError on a wrong rank, shape, dtype or setting
 * @see "Memformer: A Memory-Augmented Transformer for Sequence Modeling" (Wu et al. 2020, arXiv 2010.06891)
 */
export function memformerMemory(
  inputs: { readonly input: tf.Tensor; readonly memory: tf.Tensor },
  parameters: MemformerParameters,
  settings: MemformerSettings,
): { output: tf.Tensor3D; state: { memory: tf.Tensor3D } } {
  const { input, memory } = inputs;
  const { heads, segmentLength, temperature = 0.25, updates = 1 } = settings;
  const extents: Extents = new Map<string, number>();
  checkTensor(MECHANISM, 'input', input, ['B', 'T', 'D'], extents);
  checkTensor(MECHANISM, 'memory', memory, ['B', 'N', 'D'], extents);
  const dim = extents.get('D')!;
  const whole = (value: number): boolean => Number.isInteger(value) && value >= 1;
  checkSetting(MECHANISM, 'heads', whole(heads) && dim % heads === 0, `a divisor of ${dim}`, heads, 'Channels are cut into heads.');
  checkSetting(MECHANISM, 'segmentLength', whole(segmentLength), 'a whole number of at least 1', segmentLength, 'It counts tokens.');
  checkSetting(MECHANISM, 'temperature', temperature > 0, 'above 0', temperature, 'The paper has one below 1.');
  checkSetting(MECHANISM, 'updates', whole(updates), 'a whole number of at least 1', updates, 'It counts runs of the writer.');
  return tidy(() => {
    const result = recurrentForm({ input: input as tf.Tensor3D, memory: memory as tf.Tensor3D }, parameters, settings);
    return { output: result.output, state: { memory: result.memory } };
  });
}
