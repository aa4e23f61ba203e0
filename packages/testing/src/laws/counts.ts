import { LAW_NAMES } from './law.ts';
import type { LawNumber } from './law.ts';

/** How many tests of a law ended how, on one backend. */
export interface LawCount {
  readonly law: LawNumber;
  readonly backend: string;
  passed: number;
  failed: number;
  skipped: number;
}

/** The part of vitest's JSON output (`--reporter=json --outputFile=FILE`) that the counts read. */
export interface VitestJson {
  readonly testResults: readonly {
    readonly assertionResults: readonly { readonly ancestorTitles: readonly string[]; readonly title: string; readonly status: string }[];
  }[];
}

/**
 * Counts the law tests of a run by law and backend; tests outside any backend count under `any`.
 *
 * @param json vitest's JSON output
 * @returns one entry per law and backend that occurred, ordered by law and backend
 */
export function countLaws(json: VitestJson): LawCount[] {
  const counts = new Map<string, LawCount>();
  for (const { title, ancestorTitles, status } of json.testResults.flatMap(({ assertionResults }) => assertionResults)) {
    const law = Number(/^law (\d+) \(/.exec(title)?.[1]) as LawNumber;
    if (!Object.hasOwn(LAW_NAMES, law)) continue;
    const backend = ancestorTitles.map((ancestor) => /^on (\w+)$/.exec(ancestor)?.[1]).findLast(Boolean) ?? 'any';
    const key = `${String(law).padStart(2, '0')} ${backend}`;
    const count = counts.get(key) ?? { law, backend, passed: 0, failed: 0, skipped: 0 };
    counts.set(key, count);
    if (status === 'passed') count.passed++;
    else if (status === 'failed') count.failed++;
    else count.skipped++;
  }
  return [...counts.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
}

/** The counts as a table: one line per law, one column per backend with `passed/failed/skipped`. */
export function lawTable(counts: readonly LawCount[]): string {
  const backends = [...new Set(counts.map(({ backend }) => backend))].toSorted();
  const rows = Object.entries(LAW_NAMES).map(([law, name]) => {
    const cells = backends.map((backend) => {
      const count = counts.find((entry) => entry.law === Number(law) && entry.backend === backend);
      return count ? `${count.passed}/${count.failed}/${count.skipped}` : '-';
    });
    return [law, name, ...cells];
  });
  const lines = [['law', '', ...backends.map((backend) => `${backend} (passed/failed/skipped)`)], ...rows];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
