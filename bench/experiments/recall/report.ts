import { machineLine } from '../../measure/machine.ts';
import type { Machine } from '../../measure/machine.ts';
import type { CurvePanel } from '@seqloom/train';
import type { PairCount, Run, Sizes } from './train-once.ts';

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

/** The tasks of one panel by their places in `sizes.tasks`: pairs written once, and pairs written again. */
function groups({ tasks }: Sizes): { title: string; places: number[] }[] {
  const places = [...tasks.keys()];
  return [
    { title: 'every pair written once', places: places.filter((place) => tasks[place]!.updates === 0) },
    { title: 'every pair written again with another value', places: places.filter((place) => tasks[place]!.updates > 0) },
  ];
}

const taskName = ({ pairs, updates }: PairCount): string => (updates > 0 ? `${pairs} rewritten` : `${pairs} pairs`);

/** Accuracy over the number of pairs, a line per mixer, whiskers from the worst to the best seed. */
export function recallPanels({ sizes, results }: RecallResult): CurvePanel[] {
  return groups(sizes).map(({ title, places }) => ({
    title: `Recall at equal state: ${title}`,
    xLabel: 'key-value pairs',
    yLabel: 'share of right answers',
    yRange: [0, 1],
    lines: results.map((result) => ({
      label: result.label,
      points: places.map((place) => {
        const shares = at(result, place);
        return { x: sizes.tasks[place]!.pairs, y: mean(shares), low: Math.min(...shares), high: Math.max(...shares) };
      }),
    })),
  }));
}

/** How far the other recurrent mixers are from each plain linear attention, in words. */
function comparison({ sizes, results }: RecallResult): string[] {
  const recurrent = results.filter((result) => result.recurrent);
  const plain = recurrent.filter(({ definition }) => definition.type === 'linear-attention');
  const others = recurrent.filter((result) => !plain.includes(result));
  return plain.flatMap((base) => [
    '',
    `## Points above ${base.label}`,
    '',
    '`*`: the worst seed is above the best of the other.',
    '',
    ...table([
      ['mixer', ...sizes.tasks.map(taskName)],
      ...others.map((result) => [
        result.label,
        ...sizes.tasks.map((_, index) => {
          const [own, its] = [at(result, index), at(base, index)];
          const difference = 100 * (mean(own) - mean(its));
          return `${difference >= 0 ? '+' : ''}${difference.toFixed(1)}${Math.min(...own) > Math.max(...its) ? ' *' : ''}`;
        }),
      ]),
    ]),
  ]);
}

function table([header = [], ...rows]: readonly (readonly string[])[]): string[] {
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}

/** The results as a page of Markdown; `figure` is the picture's file name. */
export function recallMarkdown(result: RecallResult, figure: string | null): string {
  const { sizes, results, peaks, machine, command } = result;
  const header = ['mixer', 'state floats', 'parameters', 'learning rate', ...sizes.tasks.map(taskName)];
  const row = (each: CandidateResult): string[] => [
    each.label,
    each.recurrent ? String(each.runs[0]!.stateFloats) : `${each.runs[0]!.stateFloats}, grows`,
    String(each.runs[0]!.parameters),
    String(each.peak),
    ...sizes.tasks.map((_, index) => {
      const shares = at(each, index);
      return `${percent(mean(shares))} (${percent(Math.min(...shares))} .. ${percent(Math.max(...shares))})`;
    }),
  ];
  const seconds = results.flatMap(({ sweep, runs }) => [...sweep, ...runs]).reduce((sum, run) => sum + run.seconds, 0);
  return [
    '# Recall at equal state size',
    '',
    'How many key-value pairs a mixer with a state of fixed size can be asked for: multi-query associative recall (Arora et al. 2023,',
    'arXiv:2312.04927), accuracy in percent on held-out sequences, mean (worst .. best) over seeds. Where pairs are rewritten, each pair comes a',
    'second time with another value before the questions, and that value is the answer; who cannot forget the first one is left with one in two.',
    '',
    `- Command: \`npm run experiment -- ${command}\``,
    `- Machine: ${machineLine(machine)}; ${(seconds / 60).toFixed(1)} minutes of processor time for all models`,
    `- Task: ${sizes.vocabSize} ids, ${sizes.length} tokens, random filler, gaps with exponent 0.01; one model learns all the tasks, ${sizes.heldOut} held-out sequences each`,
    `- Model: embedding of width ${sizes.dim}, gated short convolution (3 taps, the same for all), the mixer with one head, head; no MLP, no other convolution`,
    `- Training: ${sizes.steps} steps of ${sizes.rows} sequences, AdamW, cosine schedule, norm clipped to 1; learning rate out of ${peaks.join(', ')} per mixer, chosen with a seed and held-out sequences of their own`,
    '- State: every recurrent mixer holds one matrix of the same size; attention keeps all keys and values and shows what the model could do without that limit',
    '',
    ...table([header, ...results.map(row)]),
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
