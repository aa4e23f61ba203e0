import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import { relativeError64 } from './oracle/array64.ts';
import type { Array64 } from './oracle/array64.ts';

/** Anything with numbers in row-major order. */
export type Numbers = tf.Tensor | Array64 | { readonly shape: readonly number[]; readonly data: ArrayLike<number> } | ArrayLike<number>;

/** Numbers on the host; `shape` is null where only a flat list was given. */
export interface HostNumbers {
  readonly shape: readonly number[] | null;
  readonly data: ArrayLike<number>;
}

/** How far two arrays are apart. */
export interface Closeness {
  /** root-mean-square difference / root-mean-square of the expected values */
  readonly rms: number;
  /** largest difference / largest expected magnitude */
  readonly max: number;
  /** flat index of the largest difference, -1 when there is none */
  readonly worst: number;
  /** why the two cannot be compared at all, e.g. other shapes */
  readonly mismatch: string | null;
}

/** Bounds of closeness; a bound left out takes its default. */
export interface ClosenessBounds {
  /** bound on the relative root-mean-square error, default 1e-5 */
  readonly rms?: number | undefined;
  /** bound on the largest difference, relative to the largest expected magnitude, default 10 times `rms` */
  readonly max?: number | undefined;
  /** magnitudes below this count as this, so that zeros can be compared; default 1e-6 */
  readonly floor?: number | undefined;
}

/** Reads numbers to the host (asynchronously, as WebGPU demands). */
export async function toHost(numbers: Numbers): Promise<HostNumbers> {
  if (numbers instanceof tf.Tensor) return { shape: [...numbers.shape], data: await numbers.data() };
  if ('data' in numbers) return { shape: numbers.shape, data: numbers.data };
  return { shape: null, data: numbers };
}

/**
 * Compares two arrays on the host: `rms = RMS(given - wanted) / RMS(wanted)`, `max = max|given - wanted| / max|wanted|`.
 *
 * Equal infinities and two NaNs count as equal; a NaN or an infinity on one side only makes both errors infinite.
 *
 * @param floor smallest magnitude that is divided by
 */
export function compareNumbers(given: HostNumbers, wanted: HostNumbers, floor = 1e-6): Closeness {
  if (given.shape && wanted.shape && !tf.util.arraysEqual([...given.shape], [...wanted.shape])) {
    const mismatch = `shape [${given.shape.join(', ')}], expected [${wanted.shape.join(', ')}]`;
    return { rms: Infinity, max: Infinity, worst: -1, mismatch };
  }
  if (given.data.length !== wanted.data.length) {
    const mismatch = `${given.data.length} numbers, expected ${wanted.data.length}`;
    return { rms: Infinity, max: Infinity, worst: -1, mismatch };
  }
  let squares = 0;
  let size = 0;
  let largest = 0;
  let magnitude = 0;
  let worst = -1;
  const count = Math.max(1, wanted.data.length);
  for (let i = 0; i < wanted.data.length; i++) {
    const a = given.data[i]!;
    const b = wanted.data[i]!;
    if (Object.is(a, b) || a === b) {
      if (Number.isFinite(b)) {
        size += b * b;
        magnitude = Math.max(magnitude, Math.abs(b));
      }
      continue;
    }
    const difference = Math.abs(a - b);
    if (!Number.isFinite(difference)) return { rms: Infinity, max: Infinity, worst: i, mismatch: null };
    squares += difference * difference;
    size += b * b;
    magnitude = Math.max(magnitude, Math.abs(b));
    if (difference > largest) {
      largest = difference;
      worst = i;
    }
  }
  return {
    rms: Math.sqrt(squares / count) / Math.max(floor, Math.sqrt(size / count)),
    max: largest / Math.max(floor, magnitude),
    worst,
    mismatch: null,
  };
}

/**
 * Says in one line what is wrong between two arrays, or null when they are close.
 *
 * @param label what is compared, begins the line
 */
export function closenessFault(label: string, given: HostNumbers, wanted: HostNumbers, bounds: ClosenessBounds = {}): string | null {
  const { rms = 1e-5, floor } = bounds;
  const max = bounds.max ?? 10 * rms;
  const closeness = compareNumbers(given, wanted, floor);
  if (closeness.mismatch) return `${label} has ${closeness.mismatch}`;
  if (closeness.rms <= rms && closeness.max <= max) return null;
  const { worst } = closeness;
  const place = placeOf(worst, wanted.shape ?? given.shape);
  const errors = `relative RMS error ${closeness.rms.toExponential(2)} (bound ${rms}), max error ${closeness.max.toExponential(2)} (bound ${max})`;
  return `${label}: ${errors}; worst at ${place}: ${given.data[worst]}, expected ${wanted.data[worst]}`;
}

/** A flat index as [i, j, k] where the shape is known. */
function placeOf(index: number, shape: readonly number[] | null): string {
  if (index < 0 || !shape || shape.length === 0) return `index ${index}`;
  const places: number[] = [];
  let rest = index;
  for (const extent of shape.toReversed()) {
    places.unshift(rest % extent);
    rest = Math.floor(rest / extent);
  }
  return `[${places.join(', ')}]`;
}

/** Installs the matcher `await expect(tensor).toBeCloseTensor(expected, { rms, max })`. */
export function installCloseness(): void {
  expect.extend({
    async toBeCloseTensor(given: Numbers, expected: Numbers, bounds: ClosenessBounds = {}) {
      const fault = closenessFault('tensor', await toHost(given), await toHost(expected), bounds);
      return { pass: fault === null, message: () => fault ?? 'tensor is as close as it should not be' };
    },
  });
}

declare module 'vitest' {
  // both parameters must stand as in vitest's own declaration
  interface Matchers<R extends void | Promise<void> = void | Promise<void>, T = unknown> {
    /** Compares with a tensor, oracle array or list of numbers; await it, since tensors are read asynchronously. */
    toBeCloseTensor(expected: Numbers, bounds?: ClosenessBounds): Promise<void>;
  }
}

/** The largest difference between two tensors of one shape. */
export function furthest(a: tf.Tensor, b: tf.Tensor): number {
  return tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!);
}

/** Holds what two computations give to each other, relative rms error; both run in a tidy, and nothing of them is left. */
export async function expectSame(given: () => tf.Tensor, wanted: () => tf.Tensor, tolerance = 1e-6): Promise<void> {
  const [left, right] = tf.tidy(() => [given(), wanted()]) as [tf.Tensor, tf.Tensor];
  expect(relativeError64(await left.data(), await right.data())).toBeLessThan(tolerance);
  tf.dispose([left, right]);
}
