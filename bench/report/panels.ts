import type { CaseResult, Row } from '../measure/suite.ts';
import type { Panel } from '@seqloom/train';

/** Microseconds per token where a case counts tokens, else milliseconds per call. */
function timeOf({ work }: CaseResult, ms: number): number {
  return work.tokens ? (ms * 1000) / work.tokens : ms;
}

/** A panel of times over x for each series of two points or more, and bars of GFLOP/s for the cases on no curve. */
export function defaultPanels(results: readonly CaseResult[], xLabel: string, clock: 'wall' | 'cpu'): Panel[] {
  const panels: Panel[] = [];
  const series = [...new Set(results.flatMap(({ series }) => (series === null ? [] : [series])))];
  for (const name of series) {
    const members = results.filter((result) => result.series === name && result.x !== null).toSorted((a, b) => a.x! - b.x!);
    const candidates = [...new Set(members.flatMap(({ rows }) => rows.map(({ candidate }) => candidate)))];
    if (members.length < 2 || candidates.length === 0) continue;
    panels.push({
      title: name,
      xLabel,
      yLabel: members.every(({ work }) => work.tokens) ? 'µs per token' : 'ms per call',
      lines: candidates.map((candidate) => ({
        label: candidate,
        points: members.flatMap((member) => {
          const row = member.rows.find((each) => each.candidate === candidate);
          if (!row) return [];
          const spread = row[clock];
          return [{ x: member.x!, y: timeOf(member, row.ms), low: timeOf(member, spread.q1), high: timeOf(member, spread.q3) }];
        }),
      })),
    });
  }
  const loose = results.filter((result) => result.series === null && result.rows.some(({ gflops }) => gflops !== null));
  if (loose.length > 0) {
    panels.push({
      title: 'Rate',
      valueLabel: 'GFLOP/s, longer is better',
      groups: loose.map(({ name, rows }) => ({
        label: name,
        bars: rows
          .filter((row): row is Row & { gflops: number } => row.gflops !== null)
          .map(({ candidate, gflops }) => ({ label: candidate, value: gflops })),
      })),
    });
  }
  return panels;
}
