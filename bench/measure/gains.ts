import { OURS } from './candidate.ts';
import type { CaseResult } from './suite.ts';
import { rowOf } from './suite.ts';

/** Names of the curves that some cases belong to, each once. */
export function seriesOf(results: readonly CaseResult[]): string[] {
  return [...new Set(results.flatMap(({ series }) => series ?? []))];
}

/**
 * Says how much faster we are than another candidate along a curve.
 *
 * @param series name of the curve
 * @param candidate whose time is divided by ours
 * @param called what the candidate is called in the sentence; by default its name
 */
export function gainNote(results: readonly CaseResult[], series: string, candidate: string, called = candidate): string {
  const ratios = results
    .filter((result) => result.series === series)
    .flatMap(({ name, x }) => {
      const [ours, theirs] = [OURS, candidate].map((each) => rowOf(results, name, each)?.ratio);
      return ours && theirs ? [`${(theirs / ours).toPrecision(2)} at ${x}`] : [];
    });
  return `${series}: time of ${called} over ours ${ratios.join(', ') || 'not measured'}`;
}
