import { machineLine } from '../../measure/machine.ts';
import type { Machine } from '../../measure/machine.ts';
import type { CurvePanel } from '../../report/plot.ts';
import type { Run, Sizes } from './train-once.ts';

/** One mixer: the models that chose its learning rate, and those that are reported. */
export interface CandidateResult {
  readonly name: string;
  readonly label: string;
  readonly recurrent: boolean;
  readonly definition: Readonly<Record<string, unknown>>;
  readonly peak: number;
  readonly sweep: readonly Run[];
  readonly runs: readonly Run[];
}

/** Everything that the experiment found. */
export interface RecallResult {
  readonly experiment: 'recall';
  readonly command: string;
  readonly machine: Machine;
  readonly sizes: Sizes;
  readonly peaks: readonly number[];
  readonly results: readonly CandidateResult[];
}

/** Mean of some numbers. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

const at = (result: CandidateResult, index: number): number[] => result.runs.map(({ accuracies }) => accuracies[index]!);
const percent = (share: number): string => (100 * share).toFixed(1);

/** Accuracy over the number of pairs, a line per mixer, whiskers from the worst to the best seed. */
export function recallPanel({ sizes, results }: RecallResult): CurvePanel {
  return {
    title: `Recall at equal state, sequences of ${sizes.length} tokens`,
    xLabel: 'key-value pairs',
    yLabel: 'share of right answers',
    yRange: [0, 1],
    lines: results.map((result) => ({
      label: result.label,
      points: sizes.pairs.map((pairs, index) => {
        const shares = at(result, index);
        return { x: pairs, y: mean(shares), low: Math.min(...shares), high: Math.max(...shares) };
      }),
    })),
  };
}

/** Which recurrent mixers beat plain linear attention, in words; none without it. */
function comparison({ sizes, results }: RecallResult): string[] {
  const plain = results.find(({ name }) => name === 'linear-attention');
  if (!plain) return [];
  return results
    .filter((result) => result.recurrent && result !== plain)
    .map((result) => {
      const verdicts = sizes.pairs.map((pairs, index) => {
        const [own, others] = [at(result, index), at(plain, index)];
        const clear = Math.min(...own) > Math.max(...others) ? ' (every seed above every)' : '';
        const difference = 100 * (mean(own) - mean(others));
        return `${difference >= 0 ? '+' : ''}${difference.toFixed(1)}${clear} at ${pairs}`;
      });
      return `- ${result.label} against linear attention, points by number of pairs: ${verdicts.join(', ')}`;
    });
}

/** The results as a page of Markdown; `figure` is the picture's file name. */
export function recallMarkdown(result: RecallResult, figure: string | null): string {
  const { sizes, results, peaks, machine, command } = result;
  const header = ['mixer', 'state floats', 'parameters', 'learning rate', ...sizes.pairs.map((pairs) => `${pairs} pairs`)];
  const row = (each: CandidateResult): string[] => [
    each.label,
    each.recurrent ? String(each.runs[0]!.stateFloats) : `${each.runs[0]!.stateFloats}, grows`,
    String(each.runs[0]!.parameters),
    String(each.peak),
    ...sizes.pairs.map((_, index) => {
      const shares = at(each, index);
      return `${percent(mean(shares))} (${percent(Math.min(...shares))} .. ${percent(Math.max(...shares))})`;
    }),
  ];
  const table = (rows: readonly (readonly string[])[]): string[] => rows.map((cells) => `| ${cells.join(' | ')} |`);
  const seconds = results.flatMap(({ sweep, runs }) => [...sweep, ...runs]).reduce((sum, run) => sum + run.seconds, 0);
  return [
    '# Recall at equal state size',
    '',
    'How many key-value pairs a mixer with a state of fixed size can be asked for: multi-query associative recall (Arora et al. 2023,',
    'arXiv:2312.04927), accuracy in percent on held-out sequences, mean (worst .. best) over seeds.',
    '',
    `- Command: \`npm run experiment -- ${command}\``,
    `- Machine: ${machineLine(machine)}; ${(seconds / 60).toFixed(1)} minutes of processor time for all models`,
    `- Task: ${sizes.vocabSize} ids, ${sizes.length} tokens, random filler, gaps with exponent 0.01; one model learns all numbers of pairs, ${sizes.heldOut} held-out sequences each`,
    `- Model: embedding of width ${sizes.dim}, gated short convolution (3 taps, the same for all), the mixer with one head, head; no MLP, no other convolution`,
    `- Training: ${sizes.steps} steps of ${sizes.rows} sequences, AdamW, cosine schedule, norm clipped to 1; learning rate out of ${peaks.join(', ')} per mixer, chosen with a seed and held-out sequences of their own`,
    '- State: every recurrent mixer holds one matrix of the same size; attention keeps all keys and values and shows what the model could do without that limit',
    '',
    ...table([header, header.map(() => '---'), ...results.map(row)]),
    '',
    '## Against plain linear attention',
    '',
    ...comparison(result),
    '',
    '## Learning rates tried',
    '',
    ...results.map(
      ({ label, sweep }) =>
        `- ${label}: ${sweep.map(({ peak, accuracies }) => `${peak}: ${percent(mean(accuracies))}`).join(', ')} (mean accuracy)`,
    ),
    ...(figure ? ['', `![Accuracy over the number of key-value pairs](${figure})`] : []),
    '',
  ].join('\n');
}
