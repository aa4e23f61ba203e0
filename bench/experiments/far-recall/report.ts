import { machineLine } from '../../measure/machine.ts';
import type { Machine } from '../../measure/machine.ts';
import type { CurvePanel } from '@seqloom/train';
import { mean } from '../recall/report.ts';
import type { FarRecallSizes } from './task.ts';

/** Sizes of task, model and training; the same for every mixer. */
export interface Sizes extends FarRecallSizes {
  /** tokens from a value to its question; mixed in training and scored one by one */
  readonly distances: readonly number[];
  readonly dim: number;
  readonly steps: number;
  /** sequences per step */
  readonly rows: number;
  /** held-out sequences of each distance */
  readonly heldOut: number;
  /** highest learning rate of the schedule */
  readonly peak: number;
}

/** One model, trained and scored. */
export interface Run {
  readonly seed: number;
  /** nats per label over the last tenth of the steps */
  readonly loss: number;
  /** share of right answers, in the order of the distances */
  readonly accuracies: readonly number[];
  readonly parameters: number;
  /** processor time */
  readonly seconds: number;
}

/** Everything that the experiment found. */
export interface FarRecallResult {
  readonly experiment: 'far-recall';
  readonly command: string;
  readonly machine: Machine;
  readonly sizes: Sizes;
  /** tokens that a local head sees */
  readonly window: number;
  readonly results: readonly {
    readonly label: string;
    readonly definition: Readonly<Record<string, unknown>>;
    readonly runs: readonly Run[];
  }[];
}

/** Accuracy over distance, a line per mixer, whiskers from the worst to the best seed. */
export function farRecallPanel({ sizes, results }: FarRecallResult): CurvePanel {
  return {
    title: 'Recall over distance',
    xLabel: 'tokens from a value to its question',
    yLabel: 'share of right answers',
    yRange: [0, 1],
    lines: results.map(({ label, runs }) => ({
      label,
      points: sizes.distances.map((x, index) => {
        const shares = runs.map(({ accuracies }) => accuracies[index]!);
        return { x, y: mean(shares), low: Math.min(...shares), high: Math.max(...shares) };
      }),
    })),
  };
}

/** The results as a page of Markdown; `figure` is the picture's file name. */
export function farRecallMarkdown({ sizes, results, machine, command, window }: FarRecallResult, figure: string | null): string {
  const percent = (share: number): string => (100 * share).toFixed(1);
  const header = ['mixer', 'parameters', ...sizes.distances.map((distance) => `${distance} tokens`)];
  const rows = results.map(({ label, runs }) => [
    label,
    String(runs[0]!.parameters),
    ...sizes.distances.map((_, index) => {
      const shares = runs.map(({ accuracies }) => accuracies[index]!);
      return `${percent(mean(shares))} (${percent(Math.min(...shares))} .. ${percent(Math.max(...shares))})`;
    }),
  ]);
  const table = [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  const seconds = results.flatMap(({ runs }) => runs).reduce((sum, run) => sum + run.seconds, 0);
  return [
    '# Recall over distance: what routed heads find and a local window misses',
    '',
    `Key-value pairs stand somewhere in filler, and each key comes back a fixed number of tokens after its value. A head with a window of`,
    `${window} tokens can answer while the value is inside it; beyond, it is left with a guess. Routed heads (causal, the last members of the`,
    'cluster of the query) find the pair by its content. Accuracy in percent on held-out sequences, mean (worst .. best) over seeds.',
    '',
    `- Command: \`npm run experiment -- ${command}\``,
    `- Machine: ${machineLine(machine)}; ${(seconds / 60).toFixed(1)} minutes of processor time for all models`,
    `- Task: ${sizes.pairs} pairs, ${sizes.length} tokens, ${sizes.ids} ids each of filler, keys and values; one model learns all distances, ${sizes.heldOut} held-out sequences each`,
    `- Model: embedding of width ${sizes.dim}, gated short convolution (3 taps), the mixer, head; no MLP`,
    `- Training: ${sizes.steps} steps of ${sizes.rows} sequences, AdamW, cosine schedule to ${sizes.peak}, the same for all`,
    ...results.map(({ label, definition }) => `- ${label}: \`${JSON.stringify(definition)}\``),
    '',
    ...table,
    '',
    `A guess among all values is right one time in ${sizes.ids}, one among the values of a sequence one time in ${sizes.pairs}.`,
    ...(figure ? ['', `![Accuracy over distance](${figure})`] : []),
    '',
  ].join('\n');
}
