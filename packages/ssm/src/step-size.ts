import type { Initialiser } from '@seqloom/core';

/** Range of the step sizes that a layer starts with. */
export interface StepRange {
  /** smallest step, default 0.001 */
  readonly min?: number;
  /** largest step, default 0.1 */
  readonly max?: number;
  /** no step starts below it, default 1e-4 */
  readonly floor?: number;
}

/** Logarithms of step sizes, drawn evenly between log min and log max. */
export function logStep({ min = 1e-3, max = 0.1 }: StepRange = {}): Initialiser {
  return (shape, random) => fill(shape, () => Math.log(min) + random.uniform() * (Math.log(max) - Math.log(min)));
}

/**
 * Step sizes, drawn evenly on a log scale, before their softplus: `b = t + log(1 - exp(-t))`, so that softplus(b) = t.
 *
 * Source: Gu & Dao 2023, section 3.6.
 */
export function stepBias({ min = 1e-3, max = 0.1, floor = 1e-4 }: StepRange = {}): Initialiser {
  return (shape, random) =>
    fill(shape, () => {
      const step = Math.max(floor, min * (max / min) ** random.uniform());
      return step + Math.log(-Math.expm1(-step));
    });
}

function fill(shape: readonly number[], value: () => number): Float32Array {
  return Float32Array.from({ length: shape.reduce((size, extent) => size * extent, 1) }, value);
}
