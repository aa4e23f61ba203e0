import { deriveSeed } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import type { Components, HybridConfig } from '@seqloom/models';
import { accuracy, TaskData, train } from '@seqloom/train';
import type { SequenceTask } from '@seqloom/train';

/** A model that takes part and what it learns. */
export interface Candidate {
  readonly name: string;
  readonly label: string;
  /** what differs between the models; width, vocabulary and seed are filled in */
  readonly model: Pick<HybridConfig, 'mixers' | 'channels' | 'definitions' | 'logitScale'>;
  /** mixed evenly in training and scored one by one */
  readonly tasks: readonly SequenceTask[];
}

/** Sizes of model and training, the same for every candidate. */
export interface Sizes {
  readonly dim: number;
  readonly steps: number;
  /** sequences per step */
  readonly rows: number;
  /** held-out sequences of each task */
  readonly heldOut: number;
  /** how often a model is scored in training, at even distances, the end included */
  readonly scores: number;
}

/** Accuracies at one step of the training. */
export interface Score {
  readonly step: number;
  /** share of right answers, in the order of the candidate's tasks */
  readonly accuracies: readonly number[];
}

/** One model, trained and scored. */
export interface Run {
  readonly candidate: string;
  readonly seed: number;
  /** highest learning rate of the schedule */
  readonly peak: number;
  /** nats per label over the last tenth of the steps */
  readonly loss: number;
  readonly curve: readonly Score[];
  /** floats that the layers keep of a sequence after its last token */
  readonly stateFloats: number;
  /** the same for each layer, its position left out */
  readonly layerFloats: readonly number[];
  readonly parameters: number;
  /** processor time */
  readonly seconds: number;
}

/**
 * Trains one model on its tasks and scores each of them along the way.
 *
 * @param set held-out examples to score: those that choose the learning rate are others than those that are reported
 */
export async function trainModel(
  { name, model: parts, tasks }: Candidate,
  components: Components,
  { dim, steps, rows, heldOut, scores }: Sizes,
  { seed, peak, set }: { readonly seed: number; readonly peak: number; readonly set: 'choice' | 'report' },
): Promise<Run> {
  const began = process.cpuUsage();
  const mixture = tasks.map((task) => ({ task }));
  const data = new TaskData(mixture, { seed });
  const { vocabSize } = data;
  const model = new HybridModel({ ...parts, vocabSize, dim, tieEmbeddings: false, initialDeviation: 0.5, seed }, components);
  try {
    const last: number[] = [];
    const curve: Score[] = [];
    const every = Math.ceil(steps / scores);
    const schedule = { shape: 'cosine', peak, warmup: Math.ceil(steps / 20) } as const;
    for await (const event of train(model, { data, steps, rows, schedule, evaluateEvery: null })) {
      if (event.type !== 'step') continue;
      const { step } = event;
      if (step > 0.9 * steps) last.push(event.loss);
      // at the end with all of the held-out sequences, on the way there with some
      if (step < steps && step % every !== 0) continue;
      const count = step === steps ? heldOut : Math.min(heldOut, 2 * rows);
      const accuracies: number[] = [];
      for (const [index, task] of tasks.entries()) {
        const held = new TaskData([{ task }], { seed: deriveSeed(index, set), heldOut: count });
        accuracies.push((await accuracy(model, held.evaluation(rows))).accuracy);
      }
      curve.push({ step, accuracies });
    }
    const { user, system } = process.cpuUsage(began);
    const longest = Math.max(...tasks.map(({ length }) => length));
    return {
      candidate: name,
      seed,
      peak,
      loss: last.reduce((sum, loss) => sum + loss, 0) / last.length,
      curve,
      stateFloats: model.stateBytes(1, longest) / 4,
      layerFloats: model.stack.layers.map((layer) => layer.stateBytes(1, longest) / 4 - 1),
      parameters: model.countParameters(),
      seconds: (user + system) / 1e6,
    };
  } finally {
    model.dispose();
  }
}
