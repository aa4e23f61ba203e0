/**
 * HGRN, the specification in double precision.
 *
 * Glossary (Qin et al. 2023, sections 3.1 to 3.3; elementwise, rows are tokens)
 *   input          u_t       (1 - f_t) c_t, c_t = silu(x_t W_i); for the complex form its real part
 *   logDecay       log f_t   f_t = gamma + (1 - gamma) sigmoid(x_t W_f)
 *   angle          theta     turn per token of the complex form, the same for all tokens
 *   memory         h_t       f_t exp(i theta) h_{t-1} + u_t; theta = 0 for the real form
 *   lower bound    gamma^l   sum of P_m over layers 1 to l, P = softmax of Gamma over the layers
 */
import type { Array64 } from '@seqloom/core';

/** Inputs of `naiveHgrn`. */
export interface NaiveHgrnInputs {
  /** [B, T, E] */
  readonly input: Array64;
  /** [B, T, E], at most 0 */
  readonly logDecay: Array64;
  /** [B, E] */
  readonly memory?: Array64;
}

/** Inputs of `naiveHgrnComplex`. */
export interface NaiveHgrnComplexInputs extends NaiveHgrnInputs {
  /** [B, T, E] */
  readonly inputImaginary: Array64;
  /** [E] */
  readonly angle: Array64;
  /** [B, E] */
  readonly memoryImaginary?: Array64;
}

/** The two patterns. */
export type NaiveHgrnPattern = 'causal-self' | 'noncausal-self';

/** All states [B, T, E] (for noncausal-self of both directions, added) and the last one of the forward direction [B, E]. */
export function naiveHgrn(inputs: NaiveHgrnInputs, pattern: NaiveHgrnPattern = 'causal-self'): { output: Array64; memory: Array64 } {
  const width = inputs.input.shape[2]!;
  const zeros = (array: Array64): Array64 => ({ shape: array.shape, data: new Float64Array(array.data.length) });
  const { output, memory } = naiveHgrnComplex(
    { ...inputs, inputImaginary: zeros(inputs.input), angle: zeros({ shape: [width], data: new Float64Array(width) }) },
    pattern,
  );
  return { output, memory };
}

/** The same of complex numbers, real and imaginary parts apart. */
export function naiveHgrnComplex(
  inputs: NaiveHgrnComplexInputs,
  pattern: NaiveHgrnPattern = 'causal-self',
): { output: Array64; outputImaginary: Array64; memory: Array64; memoryImaginary: Array64 } {
  const { input, inputImaginary, logDecay, angle, memory, memoryImaginary } = inputs;
  const [batch, length, width] = input.shape as [number, number, number];
  const make = (...shape: number[]): Array64 => ({ shape, data: new Float64Array(shape.reduce((a, b) => a * b, 1)) });
  const [output, outputImaginary] = [make(batch, length, width), make(batch, length, width)];
  const [last, lastImaginary] = [make(batch, width), make(batch, width)];
  const forward = Array.from({ length }, (_, t) => t);
  const directions = pattern === 'causal-self' ? [forward] : [forward, forward.toReversed()];
  for (let b = 0; b < batch; b++) {
    for (let c = 0; c < width; c++) {
      const [cos, sin] = [Math.cos(angle.data[c]!), Math.sin(angle.data[c]!)];
      for (const times of directions) {
        let [real, imaginary] = [memory?.data[b * width + c] ?? 0, memoryImaginary?.data[b * width + c] ?? 0];
        for (const t of times) {
          const at = (b * length + t) * width + c;
          const f = Math.exp(logDecay.data[at]!);
          [real, imaginary] = [
            f * (cos * real - sin * imaginary) + input.data[at]!,
            f * (cos * imaginary + sin * real) + inputImaginary.data[at]!,
          ];
          output.data[at]! += real;
          outputImaginary.data[at]! += imaginary;
        }
        if (times === forward) [last.data[b * width + c], lastImaginary.data[b * width + c]] = [real, imaginary];
      }
    }
  }
  return { output, outputImaginary, memory: last, memoryImaginary: lastImaginary };
}

/** The lower bound of every layer from Gamma [L, E]: 0 for the first, and growing with the layer. */
export function naiveLowerBounds(gamma: Array64): Array64 {
  const [layers, width] = gamma.shape as [number, number];
  const bounds = new Float64Array(layers * width);
  for (let c = 0; c < width; c++) {
    const column = Array.from({ length: layers }, (_, l) => Math.exp(gamma.data[l * width + c]!));
    const total = column.reduce((a, b) => a + b, 0);
    for (let l = 1; l < layers; l++) bounds[l * width + c] = bounds[(l - 1) * width + c]! + column[l]! / total;
  }
  return { shape: [layers, width], data: bounds };
}
