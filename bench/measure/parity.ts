import type { Outputs } from './candidate.ts';

/**
 * Root-mean-square difference over the root-mean-square of `wanted`.
 *
 * @returns Infinity when the lengths differ or a number is not finite where the other is
 */
export function relativeError(given: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (given.length !== wanted.length) return Infinity;
  let difference = 0;
  let size = 0;
  for (let place = 0; place < wanted.length; place++) {
    const [mine, right] = [given[place]!, wanted[place]!];
    if (mine === right) {
      if (Number.isFinite(right)) size += right * right;
      continue;
    }
    difference += (mine - right) ** 2;
    size += right * right;
  }
  const error = Math.sqrt(difference / Math.max(size, 1e-30));
  return Number.isNaN(error) ? Infinity : error;
}

/** A check of one output against the oracle; `part` picks what the oracle computed. */
export function equals(
  name: string,
  wanted: ArrayLike<number>,
  options: { readonly part?: (values: ArrayLike<number>) => ArrayLike<number>; readonly tolerance?: number } = {},
): (outputs: Outputs) => string | null {
  const { part = (values) => values, tolerance = 1e-4 } = options;
  return (outputs) => {
    // a peer may not return every output
    const given = outputs[name];
    if (!given) return null;
    const error = relativeError(part(given), wanted);
    return error <= tolerance ? null : `${name}: relative error ${error.toExponential(2)} against the float64 oracle, bound ${tolerance}`;
  };
}

/**
 * Says where outputs differ from those of other candidates beyond the bound, or null; an output that nobody had before counts as right.
 *
 * @param standard values by output name, and whose they are
 */
export function disagreement(
  given: Outputs,
  standard: ReadonlyMap<string, { readonly name: string; readonly values: ArrayLike<number> }>,
  bound: number,
): string | null {
  for (const [output, values] of Object.entries(given)) {
    const wanted = standard.get(output);
    if (!wanted) continue;
    const error = relativeError(values, wanted.values);
    if (!(error <= bound)) return `${output}: relative difference ${error.toExponential(2)} from ${wanted.name}, bound ${bound}`;
  }
  return null;
}
