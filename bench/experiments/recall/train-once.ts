import { deriveSeed } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import { accuracy, mqar, TaskData, train } from '@seqloom/train';
import { components } from './candidates.ts';
import type { Candidate } from './candidates.ts';

/** One kind of sequence: so many pairs, so many of which are written again with another value before the questions. */
export interface PairCount {
  readonly pairs: number;
  readonly updates: number;
}

/** Sizes of task, model and training; the same for every mixer. */
export interface Sizes {
  readonly vocabSize: number;
  readonly length: number;
  /** mixed in training and scored one by one */
  readonly tasks: readonly PairCount[];
  readonly dim: number;
  readonly steps: number;
  /** sequences per step */
  readonly rows: number;
  /** held-out sequences for each number of pairs */
  readonly heldOut: number;
}

/** One model, trained and scored. */
export interface Run {
  readonly candidate: string;
  readonly seed: number;
  /** highest learning rate of the schedule */
  readonly peak: number;
  /** nats per label over the last tenth of the steps */
  readonly loss: number;
  /** share of right answers, in the order of `sizes.tasks` */
  readonly accuracies: readonly number[];
  /** floats in the state of the mixer; of attention, after the last token */
  readonly stateFloats: number;
  readonly parameters: number;
  /** processor time */
  readonly seconds: number;
}

/**
 * Trains one two-layer model on a mixture of MQAR tasks and scores each task.
 *
 * @param set held-out examples to score: those that choose the learning rate are others than those that are reported
 */
export async function trainOnce(candidate: Candidate, sizes: Sizes, seed: number, peak: number, set: 'choice' | 'report'): Promise<Run> {
  const { vocabSize, length, dim, steps, rows, heldOut } = sizes;
  const began = process.cpuUsage();
  const tasks = sizes.tasks.map((counts) => mqar({ vocabSize, length, ...counts }));
  const data = new TaskData(
    tasks.map((task) => ({ task })),
    { seed },
  );
  const model = new HybridModel(
    {
      vocabSize,
      dim,
      mixers: 'shift, mixer',
      channels: 'none',
      definitions: { shift: { type: 'gated-convolution', kernelSize: 3, expand: 1 }, mixer: candidate.definition },
      tieEmbeddings: false,
      // large embeddings are told apart from the first step on, and small logits leave the head no noise to unlearn
      initialDeviation: 0.5,
      logitScale: 0.25,
      seed,
    },
    components,
  );
  try {
    const last: number[] = [];
    const schedule = { shape: 'cosine', peak, warmup: Math.ceil(steps / 20) } as const;
    for await (const event of train(model, { data, steps, rows, schedule, evaluateEvery: null })) {
      if (event.type === 'step' && event.step > 0.9 * steps) last.push(event.loss);
    }
    const accuracies: number[] = [];
    for (const [index, task] of tasks.entries()) {
      const held = new TaskData([{ task }], { seed: deriveSeed(index, set), heldOut });
      accuracies.push((await accuracy(model, held.evaluation(rows))).accuracy);
    }
    const [, mixer] = model.stack.layers;
    const { user, system } = process.cpuUsage(began);
    return {
      candidate: candidate.name,
      seed,
      peak,
      loss: last.reduce((sum, loss) => sum + loss, 0) / last.length,
      accuracies,
      // the position is one float, and no memory
      stateFloats: mixer!.stateBytes(1, length) / 4 - 1,
      parameters: model.countParameters(),
      seconds: (user + system) / 1e6,
    };
  } finally {
    model.dispose();
  }
}
