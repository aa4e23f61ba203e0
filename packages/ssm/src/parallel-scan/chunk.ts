import { complexLinearScan, linearScan } from '@seqloom/core';
import type { Scan, Scanned } from './parallel.ts';

/** The chunked form: the `LinearScan` kernel, or `ComplexLinearScan` for complex numbers. */
export function chunkForm({ decay, input, hidden, reverse }: Scan): Scanned {
  if (decay.length === 1) {
    const { hidden: output, state } = linearScan(
      { decay: decay[0]!, input: input[0]!, ...(hidden ? { state: hidden[0]! } : {}) },
      { reverse },
    );
    return { output: [output], hidden: [state] };
  }
  const result = complexLinearScan(
    {
      decayReal: decay[0]!,
      decayImaginary: decay[1]!,
      inputReal: input[0]!,
      inputImaginary: input[1]!,
      ...(hidden ? { stateReal: hidden[0]!, stateImaginary: hidden[1]! } : {}),
    },
    { reverse },
  );
  return { output: [result.hiddenReal, result.hiddenImaginary], hidden: [result.stateReal, result.stateImaginary] };
}
