import { Random } from '@seqloom/core';
import { hippoPoles } from './hippo.ts';

/** Where the poles of a diagonal state space start. */
export type PoleStart = 'legs' | 'lin' | 'inv' | 'quad' | 'real';

/**
 * Poles of one channel, one of each conjugate pair; N = 2 `count` is the state size.
 *
 * - `legs`: eigenvalues of the normal part of HiPPO-LegS; real part -1/2
 * - `lin`: `-1/2 + i pi n`
 * - `inv`: `-1/2 + i N / pi (N / (2 n + 1) - 1)`
 * - `quad`: `-1/2 + i (1 + 2 n)^2 / pi`
 * - `real`: `-(n + 1)`
 *
 * Source: Gu et al. 2022, arXiv 2206.11893, section 4.
 */
export function startPoles(start: PoleStart, count: number): { real: Float64Array; imaginary: Float64Array } {
  const size = 2 * count;
  const each = (value: (n: number) => number): Float64Array => Float64Array.from({ length: count }, (_, n) => value(n));
  const imaginary = {
    legs: () => Float64Array.from(hippoPoles(size).imaginary),
    lin: () => each((n) => Math.PI * n),
    inv: () => each((n) => (size / Math.PI) * (size / (2 * n + 1) - 1)),
    quad: () => each((n) => (1 + 2 * n) ** 2 / Math.PI),
    real: () => each(() => 0),
  }[start]();
  return { real: each((n) => (start === 'real' ? -(n + 1) : -0.5)), imaginary };
}

/** A complex matrix on the host, row-major. */
export interface HostComplex {
  readonly real: Float32Array;
  readonly imaginary: Float32Array;
}

/** Sizes of an S5 system: channels H, poles P, blocks of equal poles. */
export interface S5Sizes {
  readonly channels: number;
  readonly poles: number;
  readonly blocks: number;
}

/**
 * B of an S5 layer at its start, [P, H]: a real matrix of normal numbers of deviation 1 / sqrt(H), in the basis of HiPPO's eigenvectors,
 * `V* B` for every block.
 */
export function startInput({ channels, poles, blocks }: S5Sizes, seed: number): HostComplex {
  const random = new Random(seed);
  const count = poles / blocks;
  const { vectorsReal, vectorsImaginary } = hippoPoles(2 * count);
  const [real, imaginary] = [new Float64Array(poles * channels), new Float64Array(poles * channels)];
  for (let block = 0; block < blocks; block++) {
    for (let k = 0; k < 2 * count; k++) {
      for (let h = 0; h < channels; h++) {
        const value = random.normal() / Math.sqrt(channels);
        for (let n = 0; n < count; n++) {
          const at = (block * count + n) * channels + h;
          real[at]! += vectorsReal[k * count + n]! * value;
          imaginary[at]! -= vectorsImaginary[k * count + n]! * value;
        }
      }
    }
  }
  return { real: Float32Array.from(real), imaginary: Float32Array.from(imaginary) };
}

/**
 * C of an S5 layer at its start, [H, P]: complex normal numbers in the basis of HiPPO's eigenvectors, `C V` for every block.
 *
 * @param deviation of both parts before the change of basis, default 1 / sqrt(2 P)
 */
export function startOutput({ channels, poles, blocks }: S5Sizes, seed: number, deviation = 1 / Math.sqrt(2 * poles)): HostComplex {
  const random = new Random(seed);
  const count = poles / blocks;
  const { vectorsReal, vectorsImaginary } = hippoPoles(2 * count);
  const [real, imaginary] = [new Float64Array(channels * poles), new Float64Array(channels * poles)];
  for (let h = 0; h < channels; h++) {
    for (let block = 0; block < blocks; block++) {
      for (let k = 0; k < 2 * count; k++) {
        const [cr, ci] = [deviation * random.normal(), deviation * random.normal()];
        for (let n = 0; n < count; n++) {
          const at = h * poles + block * count + n;
          const [vr, vi] = [vectorsReal[k * count + n]!, vectorsImaginary[k * count + n]!];
          real[at]! += cr * vr - ci * vi;
          imaginary[at]! += cr * vi + ci * vr;
        }
      }
    }
  }
  return { real: Float32Array.from(real), imaginary: Float32Array.from(imaginary) };
}
