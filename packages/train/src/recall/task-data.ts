import { deriveSeed, fail, Random } from '@seqloom/core';
import type { DataPosition, EvaluationOptions, TokenBatch, TrainingData } from '../data/windows.ts';
import { IGNORED } from './task.ts';
import type { SequenceTask, TaskExample } from './task.ts';

/** One task of a mixture. */
export interface WeightedTask {
  readonly task: SequenceTask;
  /** how often it is drawn, relative to the others; default 1 */
  readonly weight?: number;
}

/** Options of `TaskData`. */
export interface TaskDataOptions {
  /** fixes every example, default 0 */
  readonly seed?: number;
  /** held-out examples of each task, default 256 */
  readonly heldOut?: number;
}

/**
 * Made-up examples as training data, without end: example n follows from (seed, n) alone, and each batch is of one task.
 *
 * Held-out examples have seeds of their own. There is no text behind the ids, so that "bits per byte" of a run are bits per label.
 *
 * @example
 * const data = new TaskData([{ task: mqar({ vocabSize: 256, length: 64, pairs: 4 }) }, { task: mqar({ vocabSize: 256, length: 128, pairs: 8 }) }]);
 */
export class TaskData implements TrainingData {
  readonly tasks: readonly SequenceTask[];
  readonly seed: number;
  readonly heldOut: number;
  readonly vocabSize: number;
  readonly bytesPerToken = 1;
  readonly heldOutBytesPerToken = 1;
  private readonly weights: readonly number[];
  private readonly text: string;
  private offset = 0;

  /**
   * @param tasks the mixture
   * @throws SeqLoomError when there is no task, or a weight or the number of held-out examples makes no sense
   */
  constructor(tasks: readonly WeightedTask[], options: TaskDataOptions = {}) {
    const { seed = 0, heldOut = 256 } = options;
    this.weights = tasks.map(({ weight = 1 }) => weight);
    const weight = this.weights.find((each) => !(each > 0) || !Number.isFinite(each));
    if (tasks.length === 0 || weight !== undefined) {
      const given = weight === undefined ? 'none' : `a weight of ${weight}`;
      fail({ mechanism: 'data', argument: 'tasks', wanted: 'at least one, with weights above 0', given, remedy: 'Correct the mixture.' });
    }
    if (!Number.isInteger(heldOut) || heldOut < 1) {
      const remedy = 'The usual number is 1000.';
      fail({ mechanism: 'data', argument: 'heldOut', wanted: 'a whole number from 1', given: String(heldOut), remedy });
    }
    this.tasks = tasks.map(({ task }) => task);
    this.seed = seed;
    this.heldOut = heldOut;
    this.vocabSize = Math.max(...this.tasks.map((task) => task.vocabSize));
    this.text = this.tasks.map(({ name }, index) => `${name} x ${this.weights[index]}`).join('; ');
  }

  get position(): DataPosition {
    const length = Math.max(...this.tasks.map((task) => task.length));
    return { epoch: 0, offset: this.offset, seed: this.seed, length, text: this.text };
  }

  seek(position: DataPosition): void {
    const own = this.position;
    for (const key of ['text', 'seed'] as const) {
      if (position[key] === own[key]) continue;
      fail({
        mechanism: 'data',
        argument: `position.${key}`,
        wanted: String(own[key]),
        given: String(position[key]),
        remedy: 'Resume with the tasks and the seed that the run was started with.',
      });
    }
    this.offset = position.offset;
  }

  nextBatch(rows: number): Promise<TokenBatch> {
    const first = this.offset;
    const share = new Random(deriveSeed(this.seed, `task.${first}`)).uniform();
    const index = pick(this.weights, share);
    this.offset += rows;
    return Promise.resolve(this.batch(index, rows, (row) => `example.${first + row}`));
  }

  async *evaluation(rows: number, options: EvaluationOptions = {}): AsyncGenerator<TokenBatch, void, undefined> {
    const most = Math.ceil((options.maxTokens ?? Infinity) / this.tasks.length);
    for (const index of this.tasks.keys()) {
      let tokens = 0;
      for (let first = 0; first < this.heldOut && tokens < most; first += rows) {
        const batch = this.batch(index, Math.min(rows, this.heldOut - first), (row) => `held-out.${index}.${first + row}`);
        tokens += batch.tokens;
        yield batch;
      }
    }
  }

  private batch(index: number, rows: number, nameOf: (row: number) => string): TokenBatch {
    const task = this.tasks[index]!;
    const examples = Array.from({ length: rows }, (_, row) => task.example(new Random(deriveSeed(this.seed, nameOf(row)))));
    return batchOf(examples, task.length);
  }
}

/** Examples of one length, row after row. */
function batchOf(examples: readonly TaskExample[], length: number): TokenBatch {
  const ids = new Int32Array(examples.length * length);
  const labels = new Int32Array(examples.length * length);
  for (const [row, example] of examples.entries()) {
    ids.set(example.ids, row * length);
    labels.set(example.labels, row * length);
  }
  const tokens = labels.reduce((count, label) => count + (label === IGNORED ? 0 : 1), 0);
  return { ids, labels, rows: examples.length, length, tokens };
}

/** Index of the weight in whose share a number from [0, 1) falls. */
function pick(weights: readonly number[], share: number): number {
  let left = share * weights.reduce((sum, weight) => sum + weight, 0);
  const index = weights.findIndex((weight) => (left -= weight) < 0);
  return index < 0 ? weights.length - 1 : index;
}
