/**
 * The first-order linear recurrence, the specification in double precision.
 *
 * Glossary (Martin & Cundy 2018, section 2; row b, token t, channel c; all numbers complex, imaginary parts 0 when left out)
 *   decay     lambda_t   [B, T, C]
 *   input     x_t        [B, T, C]
 *   hidden    h_0        [B, C], before the first token
 *   reset     r_t        [B, T], 1 where a sequence begins: what was before is forgotten
 *   mask      m_t        [B, T], 0 at padding, which leaves h as it is
 *   output    h_t        lambda_t h_{t-1} + x_t, equation 1; backwards in time with `reverse`
 */
import type { Array64 } from '@seqloom/core';
import { zeros64 } from '../array64.ts';

/** Inputs of `naiveParallelScan`. */
export interface NaiveScanInputs {
  readonly decay: Array64;
  readonly decayImaginary?: Array64;
  readonly input: Array64;
  readonly inputImaginary?: Array64;
  readonly hidden?: Array64;
  readonly hiddenImaginary?: Array64;
  readonly reset?: Array64;
  readonly mask?: Array64;
}

/** All states [B, T, C] and the one computed last [B, C], real and imaginary parts apart. */
export function naiveParallelScan(
  { decay, decayImaginary, input, inputImaginary, hidden, hiddenImaginary, reset, mask }: NaiveScanInputs,
  { reverse }: { readonly reverse: boolean },
): { output: Array64; outputImaginary: Array64; hidden: Array64; hiddenImaginary: Array64 } {
  const [batch, length, channels] = input.shape as [number, number, number];
  const [output, outputImaginary] = [zeros64(input.shape), zeros64(input.shape)];
  const [last, lastImaginary] = [zeros64([batch, channels]), zeros64([batch, channels])];
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < channels; c++) {
      const lane = b * channels + c;
      let re = hidden ? hidden.data[lane]! : 0;
      let im = hiddenImaginary ? hiddenImaginary.data[lane]! : 0;
      for (let step = 0; step < length; step++) {
        const t = reverse ? length - 1 - step : step;
        const token = b * length + t;
        const at = token * channels + c;
        if (!mask || mask.data[token] !== 0) {
          const keep = reset && reset.data[token] !== 0 ? 0 : 1;
          const [aRe, aIm] = [keep * decay.data[at]!, keep * (decayImaginary ? decayImaginary.data[at]! : 0)];
          const next = aRe * re - aIm * im + input.data[at]!;
          im = aRe * im + aIm * re + (inputImaginary ? inputImaginary.data[at]! : 0);
          re = next;
        }
        output.data[at] = re;
        outputImaginary.data[at] = im;
      }
      last.data[lane] = re;
      lastImaginary.data[lane] = im;
    }
  }
  return { output, outputImaginary, hidden: last, hiddenImaginary: lastImaginary };
}
