import { appendFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';

/** How many tests ended in which way. */
export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** The counts of one run, as appended to the file of `SEQLOOM_TOTALS`. */
export interface RecordedTotals extends Totals {
  tier: string;
}

/** Counts the tests of a run; a file that could not be loaded, or an error outside any test, counts as one failure. */
export function countTests(modules: readonly TestModule[], strayErrors: number): Totals {
  const totals: Totals = { passed: 0, failed: strayErrors, skipped: 0 };
  for (const testModule of modules) {
    if (testModule.errors().length > 0) totals.failed += 1;
    for (const suite of testModule.children.allSuites()) if (suite.errors().length > 0) totals.failed += 1;
    for (const test of testModule.children.allTests()) {
      const { state } = test.result();
      if (state === 'passed') totals.passed += 1;
      else if (state === 'failed') totals.failed += 1;
      else totals.skipped += 1;
    }
  }
  return totals;
}

/** The closing line that every test command of this repository prints. */
export function totalsLine({ passed, failed, skipped }: Totals): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/**
 * Vitest reporter that closes a run with one plain line. When `SEQLOOM_TOTALS` names a file, the counts are appended to it instead, so that a
 * caller of several runs can print one sum (see `tools/total.ts`).
 */
export class TotalsReporter implements Reporter {
  readonly #tier: string;

  /** @param tier name under which the counts are recorded */
  constructor(tier: string) {
    this.#tier = tier;
  }

  onTestRunEnd(modules: readonly TestModule[], strayErrors: readonly unknown[]): void {
    const totals = countTests(modules, strayErrors.length);
    const file = process.env.SEQLOOM_TOTALS;
    if (file) appendFileSync(file, `${JSON.stringify({ tier: this.#tier, ...totals } satisfies RecordedTotals)}\n`);
    // after the default reporter's own summary
    else process.once('exit', () => console.log(totalsLine(totals)));
  }
}
