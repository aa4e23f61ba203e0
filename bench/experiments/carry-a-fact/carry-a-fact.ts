import { MultiHeadAttention, SlidingWindowAttention } from '@seqloom/attention';
import type { MultiHeadAttentionConfig, SlidingWindowAttentionConfig } from '@seqloom/attention';
import { Mlp } from '@seqloom/core';
import type { SequenceMixer } from '@seqloom/core';
import { RecurrentMemoryTransformer } from '@seqloom/memory';
import type { RecurrentMemoryTransformerConfig } from '@seqloom/memory';
import type { ComponentConfig, Components } from '@seqloom/models';
import { carryFact } from '@seqloom/train';
import type { Panel } from '@seqloom/train';
import { runComparison } from '../comparison/comparison.ts';
import type { CandidateResult, Comparison, ComparisonResult } from '../comparison/comparison.ts';
import { percentRange, point, settingLines, sweepLines, table } from '../comparison/report.ts';
import type { Candidate } from '../comparison/train-model.ts';

const FACTS = { vocabSize: 32, keys: 2, segmentLength: 8 };
const SEGMENTS = [1, 2, 4, 8];
const MEMORY_TOKENS = 2;
const tasks = SEGMENTS.map((segments) => carryFact({ ...FACTS, segments }));

const components: Components = {
  mixers: {
    memory: (config: ComponentConfig): SequenceMixer =>
      new RecurrentMemoryTransformer(config as unknown as RecurrentMemoryTransformerConfig),
    window: (config: ComponentConfig): SequenceMixer => new SlidingWindowAttention(config as unknown as SlidingWindowAttentionConfig),
    full: (config: ComponentConfig): SequenceMixer => new MultiHeadAttention(config as unknown as MultiHeadAttentionConfig),
  },
  channels: { mlp: (config) => new Mlp(config) },
};

/** Two blocks of attention and MLP, as the memory has them around it. */
const transformer = (attention: Readonly<Record<string, unknown>> & { readonly type: string }): Candidate['model'] => ({
  mixers: 'attention*2',
  channels: 'mlp',
  definitions: { attention: { heads: 2, ...attention }, mlp: { type: 'mlp' } },
});

const candidates: readonly Candidate[] = [
  {
    name: 'recurrent-memory',
    label: 'recurrent memory transformer',
    model: {
      mixers: 'memory',
      channels: 'none',
      definitions: {
        memory: {
          type: 'memory',
          depth: 2,
          heads: 2,
          segmentLength: FACTS.segmentLength,
          memoryTokens: MEMORY_TOKENS,
          // what the block's norm makes of the tokens has deviation 1
          memoryDeviation: 1,
        },
      },
    },
    tasks,
  },
  { name: 'window', label: 'windowed transformer', model: transformer({ type: 'window', window: FACTS.segmentLength }), tasks },
  { name: 'full', label: 'full attention', model: transformer({ type: 'full' }), tasks },
];

/** Accuracies at the end of the training on one number of segments, one per seed. */
const at = ({ runs }: CandidateResult, index: number): number[] => runs.map(({ curve }) => curve.at(-1)!.accuracies[index]!);

function panels({ results }: ComparisonResult): Panel[] {
  return [
    {
      title: `A fact of the first segment, asked for in the last`,
      xLabel: `segments of ${FACTS.segmentLength} tokens`,
      yLabel: 'share of right answers',
      yRange: [0, 1],
      lines: results.map((result) => ({
        label: result.label,
        points: SEGMENTS.map((segments, index) => point(segments, at(result, index))),
      })),
    },
  ];
}

function markdown(result: ComparisonResult, figure: string | null): string {
  const { results, sizes } = result;
  const row = (each: CandidateResult): string[] => [
    each.label,
    String(each.runs[0]!.parameters),
    String(each.runs[0]!.stateFloats),
    String(each.peak),
    ...SEGMENTS.map((_, index) => percentRange(at(each, index))),
  ];
  const { vocabSize, keys, segmentLength } = FACTS;
  const values = vocabSize / 2 - keys;
  return [
    '# A fact carried over segments',
    '',
    'The first segment gives values to some keys, the last one asks for them, and there is nothing but filler between: a recurrent memory',
    'transformer (Bulatov et al. 2022, arXiv:2207.06881), which hands a few vectors from segment to segment, beside a transformer of the same size',
    `with a window of one segment, and one that sees everything. Accuracy in percent on held-out sequences, mean (worst .. best) over seeds.`,
    '',
    ...settingLines(result),
    `- Task: ${keys} keys with values out of ${values}, ${segmentLength} tokens a segment, ${SEGMENTS.join(', ')} segments mixed evenly in training; a guess is right in ${(100 / values).toFixed(1)} % of the cases`,
    `- Model: embedding of width ${sizes.dim}, two blocks of attention with two heads and an MLP, head; the memory has ${MEMORY_TOKENS} vectors, trained through all segments`,
    `- The window reaches ${segmentLength - 1} tokens back in each of two layers, so that ${2 * (segmentLength - 1)} tokens are the most that it can bridge`,
    '',
    ...table([
      ['model', 'parameters', 'state floats', 'learning rate', ...SEGMENTS.map((count) => `${count} segment${count === 1 ? '' : 's'}`)],
      ...results.map(row),
    ]),
    '',
    ...sweepLines(results),
    ...(figure ? ['', `![Accuracy over the number of segments](${figure})`] : []),
    '',
  ].join('\n');
}

const comparison: Comparison = {
  name: 'carry-a-fact',
  summary: 'Trains transformers with recurrent memory, with a window and without limit to carry facts over segments',
  components,
  candidates,
  sizes: { dim: 32, steps: 800, rows: 32, heldOut: 256, scores: 1 },
  peaks: [2.5e-3, 5e-3],
  panels,
  markdown,
};

/** Runs the experiment from the words of its command line; returns the exit code. */
export function carryAFact(words: readonly string[]): Promise<number> {
  return runComparison(comparison, words);
}
