import { defaultComponents } from '@seqloom/models';
import type { Panel } from '@seqloom/train';
import { runComparison } from '../comparison/comparison.ts';
import type { CandidateResult, Comparison, ComparisonResult } from '../comparison/comparison.ts';
import { percentRange, point, settingLines, sweepLines, table } from '../comparison/report.ts';
import { candidates, families, TASK } from './candidates.ts';
import type { Family } from './candidates.ts';

/** Bytes that the mixers keep of a sequence; the short convolution of the first layer is the same for all and left out. */
const stateBytes = ({ runs }: CandidateResult): number => 4 * runs[0]!.layerFloats.slice(1).reduce((sum, floats) => sum + floats, 0);

/** Accuracies at the end of the training on one number of pairs, one per seed. */
const at = ({ runs }: CandidateResult, index: number): number[] => runs.map(({ curve }) => curve.at(-1)!.accuracies[index]!);

/** The sizes of one family that were run, by their bytes. */
const members = ({ results }: ComparisonResult, { name, sizes }: Family): CandidateResult[] =>
  results.filter((result) => sizes.some((size) => result.name === `${name}-${size}`)).toSorted((a, b) => stateBytes(a) - stateBytes(b));

function panels(result: ComparisonResult): Panel[] {
  return TASK.pairs.flatMap((pairs, index) =>
    index === 0
      ? []
      : [
          {
            title: `Recall of ${pairs} key-value pairs against the size of the state`,
            xLabel: `bytes of state after ${TASK.length} tokens`,
            yLabel: 'share of right answers',
            yRange: [0, 1] as const,
            lines: families
              .map((family) => ({
                label: family.label,
                points: members(result, family).map((each) => point(stateBytes(each), at(each, index))),
              }))
              .filter(({ points }) => points.length > 0),
          },
        ],
  );
}

function markdown(result: ComparisonResult, figure: string | null): string {
  const { results, sizes } = result;
  const rows = families.flatMap((family) =>
    members(result, family).map((each) => [
      each.label,
      `${stateBytes(each)}${family.grows ? ', grows' : ''}`,
      String(each.runs[0]!.parameters),
      String(each.peak),
      ...TASK.pairs.map((_, index) => percentRange(at(each, index))),
    ]),
  );
  return [
    '# The recall frontier: what a byte of state remembers',
    '',
    'Multi-query associative recall (Arora et al. 2023, arXiv:2312.04927) against the size of the state, after a figure of',
    '"Simple linear attention language models balance the recall-throughput tradeoff" (Arora et al. 2024, arXiv:2402.18668), from runs of our own at a small scale.',
    'Accuracy in percent on held-out sequences, mean (worst .. best) over seeds.',
    '',
    ...settingLines(result),
    `- Task: ${TASK.vocabSize} ids, ${TASK.length} tokens, ${TASK.pairs.join(', ')} pairs mixed evenly in training, random filler, gaps with exponent 0.01; a guess among the values of a sequence is right one time in as many as there are pairs`,
    `- Model: embedding of width ${sizes.dim}, gated short convolution (3 taps, the same for all), the mixer, head; no MLP. One head of 16 value channels; Mamba-2 has four, and a convolution of its own, which is part of its state`,
    `- State: float32, without the ${4 * results[0]!.runs[0]!.layerFloats[0]!} bytes of the first layer that every model has; softmax attention keeps all ${TASK.length} tokens, and more with every token`,
    '',
    ...table([['mixer', 'state bytes', 'parameters', 'learning rate', ...TASK.pairs.map((pairs) => `${pairs} pairs`)], ...rows]),
    '',
    ...sweepLines(results),
    ...(figure ? ['', `![Accuracy over bytes of state](${figure})`] : []),
    '',
  ].join('\n');
}

const comparison: Comparison = {
  name: 'frontier',
  summary: 'Trains mixers with states of several sizes on multi-query associative recall: accuracy against bytes of state',
  components: defaultComponents,
  candidates,
  sizes: { dim: 64, steps: 1200, rows: 16, heldOut: 256, scores: 1 },
  peaks: [4e-3, 8e-3],
  seeds: 2,
  jobs: 2,
  panels,
  markdown,
};

/** Runs the experiment from the words of its command line; returns the exit code. */
export function frontier(words: readonly string[]): Promise<number> {
  return runComparison(comparison, words);
}
