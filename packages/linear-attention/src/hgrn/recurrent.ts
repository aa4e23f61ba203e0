import { complexLinearScan, linearScan } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import type { Recurrence } from './parallel.ts';

/**
 * The recurrent form, `h_t = a_t h_{t-1} + u_t` token by token, on the kernels `LinearScan` and `ComplexLinearScan`.
 *
 * @param reverse run from the last token to the first
 * @returns all h [B, T, E]
 */
export function recurrentForm({ decay, input, state }: Recurrence, reverse = false): tf.Tensor[] {
  const [decayReal, decayImaginary] = decay;
  const [inputReal, inputImaginary] = input;
  const [stateReal, stateImaginary] = state ?? [];
  if (!decayImaginary || !inputImaginary) {
    return [linearScan({ decay: decayReal!, input: inputReal!, state: stateReal }, { reverse }).hidden];
  }
  const parts = { decayReal: decayReal!, decayImaginary, inputReal: inputReal!, inputImaginary, stateReal, stateImaginary };
  const { hiddenReal, hiddenImaginary } = complexLinearScan(parts, { reverse });
  return [hiddenReal, hiddenImaginary];
}
