import { fail } from '@seqloom/core';

/** How rotary frequencies are changed to reach beyond the length that a model was trained at. */
export type RotaryScaling =
  /** position interpolation: every frequency divided by `factor` */
  | { readonly type: 'linear'; readonly factor: number }
  /** NTK-aware: a larger base, so that the slowest pair is interpolated and the fastest is not */
  | { readonly type: 'ntk'; readonly factor: number }
  /** NTK-aware for `length` tokens, grown from `originalLength`; fixed per request, since a cache holds rotated keys */
  | { readonly type: 'dynamic-ntk'; readonly factor: number; readonly originalLength: number; readonly length: number }
  /** NTK by parts with a temperature; `magnitude` multiplies cos and sin, default 0.1 ln(factor) + 1 */
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalLength: number;
      readonly betaFast?: number | undefined;
      readonly betaSlow?: number | undefined;
      /** rounds the bounds of the ramp outwards to whole channels, default true */
      readonly truncate?: boolean | undefined;
      readonly magnitude?: number | undefined;
    }
  /** Llama 3's parts by wavelength */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly originalLength: number;
      readonly lowFrequencyFactor?: number | undefined;
      readonly highFrequencyFactor?: number | undefined;
    };

/** Angles per position of each rotated pair, and what multiplies their cosines and sines. */
export interface RotaryFrequencies {
  /** [R / 2], radians per position */
  readonly frequencies: Float64Array;
  readonly magnitude: number;
}

/**
 * Rotary frequencies θ_r = base^(-2r/R) for R rotated channels, scaled as asked.
 *
 * @param dims R, even
 * @param base default 10000
 * @param scaling extension of the trained length; default none
 * @returns frequencies in float64 and the magnitude of cos and sin
 * @throws SeqLoomError when R is odd, or base or factor is not positive
 * @see RoFormer (arXiv 2104.09864), YaRN (arXiv 2309.00071), Chen et al. 2023 (arXiv 2306.15595) for linear
 */
export function rotaryFrequencies(dims: number, base = 10000, scaling: RotaryScaling | null = null): RotaryFrequencies {
  const mechanism = 'positional-encodings';
  if (!Number.isInteger(dims) || dims < 2 || dims % 2 !== 0)
    fail({
      mechanism,
      argument: 'dims',
      wanted: 'an even whole number of at least 2',
      given: String(dims),
      remedy: 'Rotate channels in pairs.',
    });
  if (!(base > 0)) fail({ mechanism, argument: 'base', wanted: 'above 0', given: String(base), remedy: 'The usual base is 10000.' });
  if (scaling && !(scaling.factor > 0))
    fail({
      mechanism,
      argument: 'scaling.factor',
      wanted: 'above 0',
      given: String(scaling.factor),
      remedy: 'Use new length / trained length.',
    });
  const at = (theBase: number): Float64Array => Float64Array.from({ length: dims / 2 }, (_, r) => theBase ** ((-2 * r) / dims));
  const stretch = (growth: number): number => base * growth ** (dims / Math.max(dims - 2, 1));
  const plain = at(base);
  switch (scaling?.type) {
    case undefined:
      return { frequencies: plain, magnitude: 1 };
    case 'linear':
      return { frequencies: plain.map((theta) => theta / scaling.factor), magnitude: 1 };
    case 'ntk':
      return { frequencies: at(stretch(scaling.factor)), magnitude: 1 };
    case 'dynamic-ntk': {
      const { factor, originalLength, length } = scaling;
      if (length <= originalLength) return { frequencies: plain, magnitude: 1 };
      return { frequencies: at(stretch((factor * length) / originalLength - (factor - 1))), magnitude: 1 };
    }
    case 'yarn':
      return yarn(plain, dims, base, scaling);
    case 'llama3':
      return llama3(plain, scaling);
  }
}

function yarn(plain: Float64Array, dims: number, base: number, scaling: RotaryScaling & { type: 'yarn' }): RotaryFrequencies {
  const { factor, originalLength, betaFast = 32, betaSlow = 1, truncate = true } = scaling;
  const magnitude = scaling.magnitude ?? (factor > 1 ? 0.1 * Math.log(factor) + 1 : 1);
  // channel whose pair turns `rotations` times over the trained length
  const channel = (rotations: number): number => (dims * Math.log(originalLength / (2 * Math.PI * rotations))) / (2 * Math.log(base));
  const low = Math.max(truncate ? Math.floor(channel(betaFast)) : channel(betaFast), 0);
  let high = Math.min(truncate ? Math.ceil(channel(betaSlow)) : channel(betaSlow), dims - 1);
  if (low === high) high += 0.001;
  const frequencies = plain.map((theta, r) => {
    const ramp = Math.min(Math.max((r - low) / (high - low), 0), 1);
    return theta * (1 - ramp) + (theta / factor) * ramp;
  });
  return { frequencies, magnitude };
}

function llama3(plain: Float64Array, scaling: RotaryScaling & { type: 'llama3' }): RotaryFrequencies {
  const { factor, originalLength, lowFrequencyFactor: low = 1, highFrequencyFactor: high = 4 } = scaling;
  const frequencies = plain.map((theta) => {
    const turns = (originalLength * theta) / (2 * Math.PI);
    const keep = Math.min(Math.max((turns - low) / (high - low), 0), 1);
    return keep * theta + ((1 - keep) * theta) / factor;
  });
  return { frequencies, magnitude: 1 };
}
