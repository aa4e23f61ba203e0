import { fail } from '@seqloom/core/error';

/** Checks that an extent is a multiple of a setting. */
export function checkDivides(mechanism: string, argument: string, divisor: number, extent: number): void {
  if (Number.isInteger(divisor) && divisor >= 1 && extent % divisor === 0) return;
  const given = String(divisor);
  fail({ mechanism, argument, wanted: `a divisor of ${extent}`, given, remedy: 'Choose one that leaves no rest.' });
}
