import { fail } from '@seqloom/core';

/**
 * ALiBi slopes for the `slopes` input of softmax attention: score -= slope_h |i - j|.
 *
 * slope_h = 2^(-8(h+1)/H) for H a power of two; otherwise those of the next lower power P, then every second one of 2P's.
 *
 * @param heads H
 * @returns [H], on the host
 * @throws SeqLoomError when H is not a whole number of at least 1
 * @see "Train Short, Test Long" (Press et al. 2022, arXiv 2108.12409)
 */
export function alibiSlopes(heads: number): Float32Array {
  if (!Number.isInteger(heads) || heads < 1)
    fail({
      mechanism: 'positional-encodings',
      argument: 'heads',
      wanted: 'a whole number of at least 1',
      given: String(heads),
      remedy: 'Pass the number of query heads.',
    });
  const power = 2 ** Math.floor(Math.log2(heads));
  return Float32Array.from(
    { length: heads },
    (_, h) => 2 ** (h < power ? (-8 * (h + 1)) / power : (-8 * (2 * (h - power) + 1)) / (2 * power)),
  );
}
