import type { SequenceMixer } from '@seqloom/core';
import type { ComponentConfig, Components } from '@seqloom/models';
import { Mamba, S5 } from '@seqloom/ssm';
import type { MambaConfig, S5Config } from '@seqloom/ssm';
import { selectiveCopying as task } from '@seqloom/train';
import type { Panel } from '@seqloom/train';
import { runComparison } from '../comparison/comparison.ts';
import type { CandidateResult, Comparison, ComparisonResult } from '../comparison/comparison.ts';
import { percentRange, point, settingLines, sweepLines, table } from '../comparison/report.ts';
import type { Candidate } from '../comparison/train-model.ts';

// as many states as give the model about as many parameters as Mamba's
const S5_STATES = 128;
const TASK = { vocabSize: 10, noise: 24, tokens: 4 };

const components: Components = {
  mixers: {
    mamba: (config: ComponentConfig): SequenceMixer => new Mamba(config as MambaConfig),
    s5: (config: ComponentConfig): SequenceMixer => new S5(config as S5Config),
  },
  channels: {},
};

const model = (type: string, settings: Readonly<Record<string, unknown>> = {}): Candidate['model'] => ({
  mixers: 'layer*2',
  channels: 'none',
  definitions: { layer: { type, ...settings } },
});

const candidates: readonly Candidate[] = [
  { name: 'mamba', label: 'Mamba', model: model('mamba'), tasks: [task(TASK)] },
  { name: 's5', label: 'S5', model: model('s5', { stateDim: S5_STATES }), tasks: [task(TASK)] },
  {
    name: 's5-plain',
    label: 'S5, plain copying',
    model: model('s5', { stateDim: S5_STATES }),
    tasks: [task({ ...TASK, selective: false })],
  },
];

/** Accuracies at one scored step, one per seed. */
const at = ({ runs }: CandidateResult, index: number): number[] => runs.map(({ curve }) => curve[index]!.accuracies[0]!);

function panels({ results, sizes }: ComparisonResult): Panel[] {
  return [
    {
      title: `Selective copying of ${TASK.tokens} tokens out of ${TASK.noise + TASK.tokens}, two layers of width ${sizes.dim}`,
      xLabel: 'optimiser steps',
      yLabel: 'share of right answers',
      yRange: [0, 1],
      lines: results.map((result) => ({
        label: result.label,
        points: result.runs[0]!.curve.map(({ step }, index) => point(step, at(result, index))),
      })),
    },
  ];
}

function markdown(result: ComparisonResult, figure: string | null): string {
  const { results, sizes } = result;
  const row = (each: CandidateResult): string[] => {
    const { curve, parameters, stateFloats } = each.runs[0]!;
    return [each.label, String(parameters), String(stateFloats), String(each.peak), percentRange(at(each, curve.length - 1))];
  };
  return [
    '# Selective copying: Mamba and S5',
    '',
    'Tokens scattered in noise are to be repeated in their order (Gu and Dao 2023, arXiv:2312.00752, section 4.1.1). What is kept must depend on',
    'what is read: the state space of Mamba selects, that of S5 treats all tokens alike and leaves the rest to the gates behind it. Plain copying,',
    'where the tokens stand at fixed places, shows that the same S5 has the memory for it. Accuracy in percent on held-out sequences, mean',
    '(worst .. best) over seeds.',
    '',
    ...settingLines(result),
    `- Task: ${TASK.vocabSize} ids, ${TASK.tokens} tokens among ${TASK.noise} of noise, then ${TASK.tokens} markers where they are asked for; a guess is right in ${(100 / (TASK.vocabSize - 2)).toFixed(1)} % of the cases`,
    `- Model: embedding of width ${sizes.dim}, two layers with residual and RMS norm, head; no MLP. S5 has ${S5_STATES} states and a gate of its own, so that both models are of about the same size`,
    '',
    ...table([['model', 'parameters', 'state floats', 'learning rate', 'accuracy'], ...results.map(row)]),
    '',
    ...sweepLines(results),
    ...(figure ? ['', `![Accuracy over the steps of the training](${figure})`] : []),
    '',
  ].join('\n');
}

const comparison: Comparison = {
  name: 'selective-copying',
  summary: 'Trains two layers of Mamba and of S5 on selective copying',
  components,
  candidates,
  sizes: { dim: 32, steps: 500, rows: 32, heldOut: 256, scores: 10 },
  peaks: [4e-3, 1e-2, 2e-2, 4e-2, 8e-2],
  panels,
  markdown,
};

/** Runs the experiment from the words of its command line; returns the exit code. */
export function selectiveCopying(words: readonly string[]): Promise<number> {
  return runComparison(comparison, words);
}
