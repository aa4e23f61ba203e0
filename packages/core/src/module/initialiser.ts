import type { Random } from './random.ts';

/** Fills a new parameter: values for `shape`, row-major. */
export type Initialiser = (shape: readonly number[], random: Random) => Float32Array;

const fill =
  (value: (random: Random) => number): Initialiser =>
  (shape, random) => {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0; i < data.length; i++) data[i] = value(random);
    return data;
  };

/** Zeros. */
export const zeros: Initialiser = fill(() => 0);
/** Ones. */
export const ones: Initialiser = fill(() => 1);
/** One value everywhere. */
export const constant = (value: number): Initialiser => fill(() => value);
/** Normal with mean 0 and the given standard deviation. */
export const normal = (standardDeviation: number): Initialiser => fill((random) => standardDeviation * random.normal());
/** Uniform in [-bound, bound). */
export const uniform = (bound: number): Initialiser => fill((random) => bound * (2 * random.uniform() - 1));

/** Normal with standard deviation 1 / sqrt(fan in), the fan in being the first axis of a [in, out] matrix. */
export const fanIn: Initialiser = (shape, random) => normal(1 / Math.sqrt(shape[0] ?? 1))(shape, random);
