import { fail } from '@seqloom/core';
import type { CheckpointStore, HistoryPoint } from './checkpoint/record.ts';
import type { EvaluationOptions, TrainingData } from './data/windows.ts';
import type { Evaluation } from './evaluate.ts';
import type { TrainableModel } from './model.ts';
import type { AdamWOptions } from './optimiser/adamw.ts';
import { checkSchedule } from './schedule.ts';
import type { ScheduleOptions } from './schedule.ts';

/** Options of `train`. */
export interface TrainOptions {
  readonly data: TrainingData;
  /** windows per micro-batch, default 16 */
  readonly rows?: number;
  /** micro-batches per optimiser step, default 1 */
  readonly accumulate?: number;
  /** optimiser steps in all; give this or `minutes` */
  readonly steps?: number;
  /** time for the whole run: the steps are counted out once their pace is known, so that the schedule ends on time */
  readonly minutes?: number;
  readonly schedule?: ScheduleOptions;
  readonly optimiser?: AdamWOptions;
  /** largest norm of the mean gradient, default 1; null for no clipping */
  readonly clip?: number | null;
  /** steps between evaluations, default a tenth of the run; 0 for one at the end; null for none */
  readonly evaluateEvery?: number | null;
  /** how held-out text is cut */
  readonly evaluation?: EvaluationOptions;
  /** where checkpoints go; without it nothing is saved */
  readonly checkpoints?: CheckpointStore;
  /** steps between checkpoints, default a tenth of the run */
  readonly checkpointEvery?: number;
  /** go on from the newest checkpoint, default true when there is one */
  readonly resume?: boolean;
  /** gets the figures of each step */
  readonly metrics?: MetricsSink;
  /** steps with a gradient that is not finite, one after the other, before the run is given up; default 10 */
  readonly maxSkips?: number;
  /** ends the run after the step at hand; a checkpoint is written */
  readonly signal?: AbortSignal;
  /** seconds on some clock, for tests */
  readonly clock?: () => number;
}

/** The figures of one step, as they go into a metrics file. */
export interface StepMetrics {
  /** from 1 */
  readonly step: number;
  /** mean nats per token, before the step */
  readonly loss: number;
  readonly bitsPerByte: number;
  readonly learningRate: number;
  /** norm of the mean gradient before clipping */
  readonly gradientNorm: number;
  readonly tokensPerSecond: number;
  /** steps left out so far because their gradient was not finite */
  readonly skipped: number;
}

/** Where the figures of each step go; `metricsFile` is one. */
export interface MetricsSink {
  /** @param step steps done so far; what the sink holds of later ones is void */
  start(step: number): Promise<void>;
  write(metrics: StepMetrics): Promise<void>;
  close(): Promise<void>;
}

/** What `train` tells while it runs. */
export type TrainEvent =
  | { readonly type: 'start'; readonly step: number; readonly total: number | null; readonly parameters: number; readonly resumed: boolean }
  | { readonly type: 'plan'; readonly total: number }
  | (StepMetrics & { readonly type: 'step'; readonly total: number | null; readonly secondsLeft: number | null })
  | (Evaluation & { readonly type: 'evaluation'; readonly step: number })
  | { readonly type: 'checkpoint'; readonly step: number };

/** How a run ended. */
export interface TrainSummary {
  readonly reason: 'done' | 'aborted';
  readonly step: number;
  readonly total: number | null;
  readonly tokens: number;
  readonly skipped: number;
  readonly seconds: number;
  /** tokens per second of training steps in this start, without its first one, which compiles; NaN when there was none */
  readonly tokensPerSecond: number;
  readonly evaluations: readonly HistoryPoint[];
  /** bits per byte of the last held-out evaluation, null when there was none */
  readonly heldOutBitsPerByte: number | null;
}

/**
 * Refuses options that do not fit, before any work.
 *
 * @throws SeqLoomError naming the first one at fault
 */
export function checkOptions(model: TrainableModel, options: TrainOptions): void {
  const refuse = (argument: string, wanted: string, given: unknown, remedy: string): never =>
    fail({ mechanism: 'train', argument, wanted, given: String(given), remedy });
  const { steps, minutes, clip = 1, data } = options;
  if ((steps === undefined) === (minutes === undefined))
    refuse(
      'steps',
      'given, or minutes, and not both',
      steps === undefined ? 'neither' : 'both',
      'Say how long to train in one of the ways.',
    );
  for (const [argument, value, least] of [
    ['steps', steps, 1],
    ['rows', options.rows, 1],
    ['accumulate', options.accumulate, 1],
    ['checkpointEvery', options.checkpointEvery, 1],
    ['evaluateEvery', options.evaluateEvery ?? undefined, 0],
    ['maxSkips', options.maxSkips, 1],
  ] as const) {
    if (value !== undefined && !(Number.isInteger(value) && value >= least))
      refuse(argument, `a whole number from ${least}`, value, `Correct ${argument}.`);
  }
  if (minutes !== undefined && !(minutes > 0 && Number.isFinite(minutes)))
    refuse('minutes', 'a finite number above 0', minutes, 'Five minutes are enough for a first look.');
  if (clip !== null && !(clip > 0)) refuse('clip', 'above 0, or null', clip, 'The usual norm is 1.');
  checkSchedule(options.schedule ?? {});
  const { vocabSize } = (model.config ?? {}) as { readonly vocabSize?: unknown };
  if (typeof vocabSize === 'number' && vocabSize < data.vocabSize)
    refuse('model.config.vocabSize', `at least the tokeniser's ${data.vocabSize}`, vocabSize, 'Build the model for this tokeniser.');
}
