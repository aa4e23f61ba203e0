import { digits } from '@seqloom/train';

export { digits };

/** Five numbers of a set of samples, in the samples' unit. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** lower and upper quartile */
  readonly q1: number;
  readonly q3: number;
  readonly samples: number;
}

/** Quantile of ascending numbers, by linear interpolation between neighbours. */
export function quantile(ascending: readonly number[], share: number): number {
  if (ascending.length === 0) return Number.NaN;
  const place = share * (ascending.length - 1);
  const [below, above] = [ascending[Math.floor(place)]!, ascending[Math.ceil(place)]!];
  return below + (above - below) * (place - Math.floor(place));
}

/** Median, extremes and quartiles of samples in any order. */
export function spreadOf(samples: readonly number[]): Spread {
  const ascending = samples.toSorted((a, b) => a - b);
  const at = (share: number): number => quantile(ascending, share);
  return { median: at(0.5), min: at(0), max: at(1), q1: at(0.25), q3: at(0.75), samples: samples.length };
}

/**
 * Where curve `a` falls below curve `b` for good, by interpolation on logarithmic axes.
 *
 * @param x ascending, the same for both curves
 * @returns null when `a` is not below `b` at the last point; the first x when it always is
 */
export function crossing(x: readonly number[], a: readonly number[], b: readonly number[]): number | null {
  const gap = x.map((_, place) => Math.log(a[place]! / b[place]!));
  let from = gap.length;
  while (from > 0 && gap[from - 1]! < 0) from--;
  if (from === gap.length) return null;
  if (from === 0) return x[0]!;
  const share = gap[from - 1]! / (gap[from - 1]! - gap[from]!);
  return Math.exp(Math.log(x[from - 1]!) + share * (Math.log(x[from]!) - Math.log(x[from - 1]!)));
}

/** A count of bytes with its binary unit. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${digits(bytes / 1024 ** power)} ${units[power]}`;
}
