import { fail } from '@seqloom/core/error';
import type { HostArray } from './array.ts';

/** Checks that an extent is a multiple of a setting. */
export function checkDivides(mechanism: string, argument: string, divisor: number, extent: number): void {
  if (Number.isInteger(divisor) && divisor >= 1 && extent % divisor === 0) return;
  const given = String(divisor);
  fail({ mechanism, argument, wanted: `a divisor of ${extent}`, given, remedy: 'Choose one that leaves no rest.' });
}

/** Checks that a setting counts something: a whole number, at least 1. */
export function checkCount(mechanism: string, argument: string, count: number): void {
  if (Number.isInteger(count) && count >= 1) return;
  fail({ mechanism, argument, wanted: 'a whole number, at least 1', given: String(count), remedy: 'Leave it out.' });
}

/** Whole numbers as the float32 numbers that gpu.js knows, each checked to be in its range. */
export function wholeNumbers(
  mechanism: string,
  argument: string,
  numbers: Int32Array,
  range: { readonly count: number; readonly least: number; readonly below: number },
): HostArray {
  const { count, least, below } = range;
  const refuse = (wanted: string, given: string, remedy: string): never => fail({ mechanism, argument, wanted, given, remedy });
  if (numbers.length !== count || count < 1) refuse(`${Math.max(1, count)} numbers`, `${numbers.length}`, 'Give one per row.');
  // float32 counts without gaps up to here
  if (below > 2 ** 24) refuse('numbers below 2^24, which float32 can tell apart', `a range of ${below}`, 'Split the table.');
  const fault = numbers.find((number) => number < least || number >= below);
  const bottom = least === 0 ? ' and not negative' : Number.isFinite(least) ? ` and at least ${least}` : '';
  if (fault !== undefined) refuse(`below ${below}${bottom}`, `${fault}`, 'Check where it comes from.');
  return { shape: [count], data: Float32Array.from(numbers) };
}
