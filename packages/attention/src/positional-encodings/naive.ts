/**
 * Positional encodings in float64 on plain arrays: the specification.
 *
 * | code | symbol | equation |
 * | --- | --- | --- |
 * | frequencies | θ_r = base^(-2r/R), r < R/2 | RoFormer (Su et al. 2021) eq. 15 |
 * | angle | m θ_r, m = position | RoFormer eq. 13 |
 * | slope | 2^(-8(h+1)/H) | ALiBi (Press et al. 2022) section 3 |
 * | zeta, power | ζ_r = (2r/R + 0.4) / 1.4, (m - c) / 512 | xPos (Sun et al. 2022) algorithm 1 |
 * | PE | PE[m, 2r] = sin mθ_r, PE[m, 2r+1] = cos mθ_r | Vaswani et al. 2017 section 3.5 |
 */

/** θ_r of plain rotary embedding for `dims` rotated channels. */
export function naiveFrequencies(dims: number, base = 10000): number[] {
  return Array.from({ length: dims / 2 }, (_, r) => base ** ((-2 * r) / dims));
}

/**
 * Rotates one head's channels at one position.
 *
 * @param x channels; those from 2 × frequencies on stay as they are
 * @param position m
 * @param frequencies θ_r
 * @param interleaved pairs (2r, 2r+1) instead of (r, r + R/2)
 */
export function naiveRotate(x: readonly number[], position: number, frequencies: readonly number[], interleaved = false): number[] {
  const rotated = [...x];
  frequencies.forEach((frequency, r) => {
    const [first, second] = interleaved ? [2 * r, 2 * r + 1] : [r, r + frequencies.length];
    const [cos, sin] = [Math.cos(position * frequency), Math.sin(position * frequency)];
    rotated[first] = x[first]! * cos - x[second]! * sin;
    rotated[second] = x[second]! * cos + x[first]! * sin;
  });
  return rotated;
}

/** ALiBi slopes: the powers rule where `heads` is a power of two, else that of the next lower one and every second of its double. */
export function naiveAlibiSlopes(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const own = Array.from({ length: power }, (_, h) => 2 ** ((-8 * (h + 1)) / power));
  if (power === heads) return own;
  const doubled = naiveAlibiSlopes(2 * power).filter((_, index) => index % 2 === 0);
  return [...own, ...doubled.slice(0, heads - power)];
}

/** xPos factor of pair r at position m: ζ_r^((m - centre) / scaleBase), its inverse for keys. */
export function naiveXposFactor(r: number, dims: number, position: number, centre = 0, scaleBase = 512): number {
  const zeta = ((2 * r) / dims + 0.4) / 1.4;
  return zeta ** ((position - centre) / scaleBase);
}

/** The sinusoidal encoding of one position. */
export function naiveSinusoid(position: number, dim: number, base = 10000): number[] {
  const frequencies = naiveFrequencies(dim, base);
  return Array.from({ length: dim }, (_, c) => (c % 2 === 0 ? Math.sin : Math.cos)(position * frequencies[c >> 1]!));
}
