import { machineLine } from '../../measure/machine.ts';
import { mean } from '../recall/report.ts';
import type { CandidateResult, ComparisonResult } from './comparison.ts';
import type { Run } from './train-model.ts';

/** Mean accuracy of a model over its tasks at the end of its training. */
export function finalMean({ curve }: Run): number {
  return mean(curve.at(-1)!.accuracies);
}

/** A point of a line: the mean over the seeds, with whiskers from the worst to the best. */
export function point(x: number, shares: readonly number[]): { x: number; y: number; low: number; high: number } {
  return { x, y: mean(shares), low: Math.min(...shares), high: Math.max(...shares) };
}

/** A share in percent: mean (worst .. best). */
export function percentRange(shares: readonly number[]): string {
  const percent = (share: number): string => (100 * share).toFixed(1);
  return `${percent(mean(shares))} (${percent(Math.min(...shares))} .. ${percent(Math.max(...shares))})`;
}

/** A Markdown table from its rows, the header first. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const [header, ...body] = rows as [readonly string[], ...(readonly string[])[]];
  return [line(header), line(header.map(() => '---')), ...body.map(line)];
}

/** Which command, machine and training a page is about. */
export function settingLines({ command, machine, sizes, peaks, results }: ComparisonResult): string[] {
  const seconds = results.flatMap(({ sweep, runs }) => [...sweep, ...runs]).reduce((sum, run) => sum + run.seconds, 0);
  return [
    `- Command: \`npm run experiment -- ${command}\``,
    `- Machine: ${machineLine(machine)}; ${(seconds / 60).toFixed(1)} minutes of processor time for all models`,
    `- Training: ${sizes.steps} steps of ${sizes.rows} sequences, AdamW, cosine schedule, norm clipped to 1; learning rate out of ${peaks.join(', ')} per model, chosen with a seed and held-out sequences of their own; ${results[0]!.runs.length} other seeds are reported, on ${sizes.heldOut} held-out sequences each`,
  ];
}

/** The learning rates that were tried, and what came of them. */
export function sweepLines(results: readonly CandidateResult[]): string[] {
  return [
    '## Learning rates tried',
    '',
    ...results.map(({ label, sweep }) => {
      const tried = sweep.map((run) => `${run.peak}: ${(100 * finalMean(run)).toFixed(1)}`);
      return `- ${label}: ${tried.join(', ')} (mean accuracy of one seed)`;
    }),
  ];
}
