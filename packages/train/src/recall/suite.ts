import { deriveSeed, fail } from '@seqloom/core';
import { accuracy } from './accuracy.ts';
import type { Accuracy, LogitModel } from './accuracy.ts';
import { carryFact } from './carry-fact.ts';
import { induction } from './induction.ts';
import { mqar } from './mqar.ts';
import { needle, needleIds } from './needle.ts';
import { selectiveCopying } from './selective-copying.ts';
import { TaskData } from './task-data.ts';
import type { SequenceTask } from './task.ts';

/** Where the recall tasks are scored: every length with every number of pairs, or at every depth. */
export interface RecallGrid {
  /** ids that the model knows; the tasks take what they need of them */
  readonly vocabSize: number;
  /** tokens of a sequence */
  readonly lengths: readonly number[];
  /** key-value pairs, tokens to copy, or facts of the first segment */
  readonly pairs: readonly number[];
  /** places of the needle, from 0, the start, to 1, the end */
  readonly depths: readonly number[];
  /** tokens of a segment in recall across segments, which divide each length */
  readonly segmentLength: number;
}

/** One task at one place of the grid. */
export interface RecallPoint {
  readonly task: SequenceTask;
  readonly length: number;
  /** pairs, depth, tokens to copy, or tokens of the trigger; see `RecallSet.axis` */
  readonly value: number;
  /** accuracy of a guess among the ids that answers are drawn from */
  readonly chance: number;
}

/** A task over a grid. */
export interface RecallSet {
  /** what `RecallPoint.value` counts, in words */
  readonly axis: string;
  readonly points: readonly RecallPoint[];
}

/** Result of `scoreRecall` at one point. */
export interface RecallScore extends Omit<RecallPoint, 'task'>, Accuracy {}

type Builder = (grid: RecallGrid) => {
  axis: string;
  values: readonly number[];
  build(length: number, value: number): [SequenceTask, number];
};

const builders = {
  mqar: ({ vocabSize, pairs }) => {
    // the vocabulary of the paper is the largest that makes sense
    const ids = Math.min(vocabSize, 8192);
    return { axis: 'pairs', values: pairs, build: (length, count) => [mqar({ vocabSize: ids, length, pairs: count }), Math.ceil(ids / 2)] };
  },
  needle: ({ vocabSize, depths }) => {
    const ids = Math.min(vocabSize, 64);
    const values = ids - needleIds(ids).firstValue;
    return { axis: 'depth', values: depths, build: (length, depth) => [needle({ vocabSize: ids, length, depth }), values] };
  },
  'selective-copy': ({ vocabSize, pairs }) => {
    const ids = Math.min(vocabSize, 16);
    const build = (length: number, tokens: number): [SequenceTask, number] => [
      selectiveCopying({ vocabSize: ids, noise: length - 2 * tokens, tokens }),
      ids - 2,
    ];
    return { axis: 'tokens to copy', values: pairs, build };
  },
  induction: ({ vocabSize }) => {
    const ids = Math.min(vocabSize, 16);
    return {
      axis: 'tokens that come back',
      values: [2],
      build: (length, trigger) => [induction({ vocabSize: ids, length, trigger }), ids],
    };
  },
  'segment-recall': ({ vocabSize, pairs, segmentLength }) => {
    const ids = Math.min(vocabSize, 32);
    const build = (length: number, keys: number): [SequenceTask, number] => {
      const segments = length / segmentLength;
      if (!Number.isInteger(segments)) {
        const remedy = 'Choose other lengths, or another length of a segment.';
        fail({
          mechanism: 'recall',
          argument: 'lengths',
          wanted: `multiples of the segment's ${segmentLength} tokens`,
          given: String(length),
          remedy,
        });
      }
      return [carryFact({ vocabSize: ids, keys, segmentLength, segments }), ids - Math.floor(ids / 2) - keys];
    };
    return { axis: 'facts', values: pairs, build };
  },
} satisfies Readonly<Record<string, Builder>>;

/** Name of a task that `recallSet` makes. */
export type RecallTaskName = keyof typeof builders;

/** The names that `recallSet` knows. */
export const RECALL_TASKS = Object.keys(builders) as readonly RecallTaskName[];

/**
 * A recall task at every place of a grid: `mqar`, `needle`, `selective-copy`, `induction` and `segment-recall`.
 *
 * Vocabularies are those of the papers, or the model's where it has fewer ids.
 *
 * @param name one of `RECALL_TASKS`
 * @param grid lengths, numbers of pairs, depths
 * @returns the tasks with what a guess would reach
 * @throws SeqLoomError when the name is unknown or a task does not fit a length
 *
 * @example
 * const { points } = recallSet('mqar', { vocabSize: 256, lengths: [64, 128], pairs: [4, 8], depths: [], segmentLength: 16 });
 * const data = new TaskData(points);
 */
export function recallSet(name: RecallTaskName, grid: RecallGrid): RecallSet {
  if (!Object.hasOwn(builders, name)) {
    const wanted = `one of ${RECALL_TASKS.join(', ')}`;
    fail({ mechanism: 'recall', argument: 'task', wanted, given: name, remedy: 'Name one of these.' });
  }
  const { axis, values, build } = (builders[name] as Builder)(grid);
  if (values.length === 0 || grid.lengths.length === 0) {
    const argument = grid.lengths.length === 0 ? 'lengths' : axis;
    fail({ mechanism: 'recall', argument, wanted: 'at least one', given: 'none', remedy: 'Give one value or more.' });
  }
  const points = values.flatMap((value) =>
    grid.lengths.map((length): RecallPoint => {
      const [task, choices] = build(length, value);
      return { task, length, value, chance: 1 / choices };
    }),
  );
  return { axis, points };
}

/** Options of `scoreRecall`. */
export interface ScoreRecallOptions {
  /** sequences per point, default 128 */
  readonly count?: number;
  /** fixes the sequences, default 0; they are others than `TaskData` trains on with any seed */
  readonly seed?: number;
  /** sequences per forward, default 8 */
  readonly rows?: number;
  /** tokens per forward, the state carried on between them; default 512 */
  readonly piece?: number;
}

/**
 * Accuracy of a model at each point of a recall task.
 *
 * @param model gives logits and takes a state; stays as it is
 * @returns one score per point, as they are done
 */
export async function* scoreRecall(
  model: LogitModel,
  points: readonly RecallPoint[],
  options: ScoreRecallOptions = {},
): AsyncGenerator<RecallScore, void, undefined> {
  const { count = 128, seed = 0, rows = 8, piece = 512 } = options;
  for (const { task, length, value, chance } of points) {
    const held = new TaskData([{ task }], { seed: deriveSeed(seed, `recall.${task.name}`), heldOut: count });
    yield { length, value, chance, ...(await accuracy(model, held.evaluation(rows), { piece })) };
  }
}
