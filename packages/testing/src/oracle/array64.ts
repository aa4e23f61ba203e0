import type { Array64 } from '@seqloom/core';

export type { Array64 };

/** Oracle tensors by name; an optional one that is absent is `undefined`. */
export type Arrays64 = Readonly<Record<string, Array64 | undefined>>;

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/**
 * Makes an oracle tensor.
 *
 * @param shape extents, outermost first
 * @param values one number for every element, or all elements in row-major order; zeros when left out
 */
export function array64(shape: readonly number[], values: number | ArrayLike<number> = 0): Array64 {
  const size = sizeOf(shape);
  if (typeof values === 'number') return { shape: [...shape], data: new Float64Array(size).fill(values) };
  if (values.length !== size) throw new Error(`array64: ${values.length} values do not fill the shape [${shape.join(', ')}]`);
  return { shape: [...shape], data: Float64Array.from(values) };
}

/** A reproducible stream of uniform numbers in [0, 1) (mulberry32). */
export function randomStream(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Uniform random numbers in [low, high), each exactly a float32, so that a float32 kernel sees the very same inputs. */
export function uniform64(shape: readonly number[], seed: number, low = -1, high = 1): Array64 {
  const next = randomStream(seed);
  return { shape: [...shape], data: Float64Array.from({ length: sizeOf(shape) }, () => Math.fround(low + (high - low) * next())) };
}

/**
 * The same tensors with some of them made anew entry by entry, each entry rounded to a float32.
 *
 * @param maps by name; what they give for an entry and its flat index
 */
export function mapArrays64(
  arrays: Arrays64,
  maps: Readonly<Record<string, (value: number, at: number) => number>>,
): Record<string, Array64 | undefined> {
  const made = Object.entries(maps).map(([name, map]) => {
    const { shape, data } = arrays[name]!;
    return [name, { shape, data: Float64Array.from(data, (value, at) => Math.fround(map(value, at))) }] as const;
  });
  return { ...arrays, ...Object.fromEntries(made) };
}

/** The weighted sum of all outputs that have a cotangent: sum over outputs of sum(output * cotangent). */
export function weightedSum64(outputs: Arrays64, cotangents: Arrays64): number {
  let total = 0;
  for (const [name, cotangent] of Object.entries(cotangents)) {
    const output = outputs[name];
    if (!cotangent || !output) continue;
    for (let index = 0; index < cotangent.data.length; index++) total += output.data[index]! * cotangent.data[index]!;
  }
  return total;
}

/**
 * Gradients of `weightedSum64(oracle(inputs), cotangents)` by central differences in double precision, one element at a time:
 * (f(x + h) - f(x - h)) / 2h, good to about 1e-9 relative for smooth oracles.
 *
 * @param oracle the specification
 * @param inputs point at which to differentiate
 * @param cotangents weight of every output that takes part in the sum
 * @param wrt names of the inputs to differentiate by; absent ones are left out of the answer
 * @param step h, relative to max(1, abs(x))
 */
export function centralDifferences<I extends Arrays64>(
  oracle: (inputs: I) => Arrays64,
  inputs: I,
  cotangents: Arrays64,
  wrt: readonly (keyof I & string)[],
  step = 1e-5,
): Record<string, Array64> {
  const gradients: Record<string, Array64> = {};
  for (const name of wrt) {
    const original = inputs[name];
    if (!original) continue;
    const moved = Float64Array.from(original.data);
    const trial = { ...inputs, [name]: { shape: original.shape, data: moved } } as I;
    const gradient = new Float64Array(moved.length);
    for (let index = 0; index < moved.length; index++) {
      const centre = original.data[index]!;
      const reach = step * Math.max(1, Math.abs(centre));
      moved[index] = centre + reach;
      const above = weightedSum64(oracle(trial), cotangents);
      moved[index] = centre - reach;
      const below = weightedSum64(oracle(trial), cotangents);
      moved[index] = centre;
      gradient[index] = (above - below) / (2 * reach);
    }
    gradients[name] = { shape: original.shape, data: gradient };
  }
  return gradients;
}

/** Root-mean-square difference divided by the root-mean-square of `wanted` (or by `floor` where that is smaller). */
export function relativeError64(given: ArrayLike<number>, wanted: ArrayLike<number>, floor = 1e-12): number {
  if (given.length !== wanted.length) return Infinity;
  let difference = 0;
  let size = 0;
  for (let index = 0; index < wanted.length; index++) {
    difference += (given[index]! - wanted[index]!) ** 2;
    size += wanted[index]! ** 2;
  }
  const count = Math.max(1, wanted.length);
  return Math.sqrt(difference / count) / Math.max(floor, Math.sqrt(size / count));
}
