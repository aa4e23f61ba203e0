import { fail } from '@seqloom/core';
import { breathe } from './breathe.ts';
import { loadCheckpoint } from './checkpoint/apply.ts';
import type { CheckpointStore, HistoryPoint, RunState } from './checkpoint/record.ts';
import type { EvaluationOptions, TrainingData } from './data/windows.ts';
import { batchLoss, bitsPerByte, evaluate } from './evaluate.ts';
import type { Evaluation } from './evaluate.ts';
import type { TrainableModel } from './model.ts';
import { AdamW } from './optimiser/adamw.ts';
import type { AdamWOptions } from './optimiser/adamw.ts';
import { clipScale } from './optimiser/clip.ts';
import { GradientSum } from './optimiser/gradient-sum.ts';
import { plannedSteps } from './plan.ts';
import { checkSchedule, learningRateAt } from './schedule.ts';
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
  /** tokens learned from per second of training steps in this start */
  readonly tokensPerSecond: number;
  readonly evaluations: readonly HistoryPoint[];
  /** bits per byte of the last held-out evaluation, null when there was none */
  readonly heldOutBitsPerByte: number | null;
}

/**
 * Trains a model: AdamW with a schedule, clipping and accumulation, with evaluation, checkpoints and exact resume.
 *
 * The model is trained in place and stays the caller's. Nothing runs between `next()` calls, so leaving the loop early stops the training
 * at once; `signal` ends it with a checkpoint instead.
 *
 * @returns an async iterator over events; its return value is the summary
 * @throws SeqLoomError on options that do not fit, a checkpoint of another model, text or order, or too many skipped steps in a row
 *
 * @example
 * const run = train(model, { data, steps: 200 });
 * for await (const event of run) if (event.type === 'step') report(event.loss);
 */
export async function* train(model: TrainableModel, options: TrainOptions): AsyncGenerator<TrainEvent, TrainSummary, undefined> {
  const { data, rows = 16, accumulate = 1, schedule = {}, clip = 1, checkpoints, signal, maxSkips = 10 } = options;
  const clock = options.clock ?? (() => performance.now() / 1000);
  checkOptions(model, options);
  const optimiser = new AdamW(model.namedParameters(), options.optimiser);
  const gradients = new GradientSum(optimiser.rules);
  try {
    let run: RunState = {
      step: 0,
      total: options.steps ?? null,
      tokens: 0,
      skipped: 0,
      seconds: 0,
      data: data.position,
      evaluations: [],
    };
    const saved = checkpoints && options.resume !== false ? await checkpoints.load() : null;
    if (saved) {
      loadCheckpoint(saved, model, optimiser, data);
      run = { ...saved.run, total: options.steps ?? saved.run.total };
    }
    await options.metrics?.start(run.step);
    const begin = clock() - run.seconds;
    const parameters = optimiser.rules.reduce((sum, { parameter }) => sum + parameter.size, 0);
    yield { type: 'start', step: run.step, total: run.total, parameters, resumed: saved !== null };

    const stepSeconds: number[] = [];
    let checkpointSeconds = 0;
    let evaluationSeconds = 0;
    let learned = 0;
    let skipsInARow = 0;
    let savedAt = saved ? run.step : -1;

    const save = async (): Promise<TrainEvent> => {
      const start = clock();
      run = { ...run, seconds: clock() - begin, data: data.position };
      const weights = await model.stateDict();
      await checkpoints!.save({ run, config: model.config, weights, optimiser: await optimiser.state() });
      savedAt = run.step;
      checkpointSeconds = clock() - start;
      return { type: 'checkpoint', step: run.step };
    };
    const assess = async (): Promise<TrainEvent[]> => {
      const start = clock();
      const result = await evaluate(model, data, { ...options.evaluation, rows, signal });
      // half an evaluation is none
      if (signal?.aborted) return [];
      evaluationSeconds = clock() - start;
      run = { ...run, evaluations: [...run.evaluations, { step: run.step, bitsPerByte: result.bitsPerByte }] };
      return [{ type: 'evaluation', step: run.step, ...result }];
    };
    const tenth = (): number => Math.max(1, Math.ceil((run.total ?? Infinity) / 10));
    const evaluates = options.evaluateEvery !== null;

    // the number of steps is set from the pace of the first ones and mended at each quarter, but never after a resume
    let replans = options.minutes === undefined || run.total !== null ? 0 : 4;
    const probe = Math.min(30, 0.04 * 60 * (options.minutes ?? 0));
    const timeToPlan = (): boolean => {
      if (replans === 0) return false;
      if (run.total === null) return stepSeconds.length >= 3 && clock() - begin >= probe;
      return run.step >= Math.floor((run.total * (5 - replans)) / 4);
    };

    while (run.total === null || run.step < run.total) {
      if (signal?.aborted) break;
      const start = clock();
      for (let part = 0; part < accumulate; part++) {
        const batch = await data.nextBatch(rows);
        gradients.add(() => batchLoss(model, batch, true), batch.tokens);
      }
      const { loss, norm } = await gradients.measure();
      const learningRate = learningRateAt(schedule, run.step, run.total ?? Infinity);
      const finite = Number.isFinite(loss) && Number.isFinite(norm);
      if (finite) {
        optimiser.step(gradients.gradients, { learningRate, gradientScale: clipScale(norm, clip) / gradients.tokens });
      }
      const tokens = finite ? gradients.tokens : 0;
      gradients.reset();
      skipsInARow = finite ? 0 : skipsInARow + 1;
      run = { ...run, step: run.step + 1, tokens: run.tokens + tokens, skipped: run.skipped + (finite ? 0 : 1) };
      const seconds = clock() - start;
      // the first step also compiles
      if (learned > 0 || run.total !== null) stepSeconds.push(seconds);
      if (stepSeconds.length > 200) stepSeconds.shift();
      learned += rows * data.position.length * accumulate;
      const left = run.total === null || stepSeconds.length === 0 ? null : (run.total - run.step) * average(stepSeconds);
      const metrics: StepMetrics = {
        step: run.step,
        loss,
        bitsPerByte: bitsPerByte(loss, data.bytesPerToken),
        learningRate,
        gradientNorm: norm,
        tokensPerSecond: (rows * data.position.length * accumulate) / seconds,
        skipped: run.skipped,
      };
      await options.metrics?.write(metrics);
      yield { type: 'step', ...metrics, total: run.total, secondsLeft: left };
      if (skipsInARow >= maxSkips) diverged(skipsInARow, loss, norm);
      if (timeToPlan()) {
        if (evaluates && run.total === null) yield* await assess();
        const every = options.evaluateEvery ?? null;
        const share = run.total === null ? 1 : 1 - run.step / run.total;
        const total = plannedSteps({
          stepSeconds,
          evaluationSeconds,
          checkpointSeconds,
          used: clock() - begin,
          allowed: options.minutes! * 60,
          done: run.step,
          evaluationsLeft: evaluates ? (every === null ? Math.ceil(10 * share) + 1 : every === 0 ? 1 : 10 * share) : 0,
          checkpointsLeft: checkpoints ? Math.ceil(10 * share) + 1 : 0,
        });
        replans--;
        if (total !== run.total) yield { type: 'plan', total };
        run = { ...run, total };
      }
      if (run.total !== null && run.step < run.total) {
        const every = options.evaluateEvery ?? tenth();
        if (evaluates && every > 0 && run.step % every === 0 && run.evaluations.at(-1)?.step !== run.step) yield* await assess();
        if (checkpoints && run.step % (options.checkpointEvery ?? tenth()) === 0) yield await save();
      }
      await breathe();
    }
    const aborted = run.total === null || run.step < run.total;
    if (evaluates && !aborted && run.evaluations.at(-1)?.step !== run.step) yield* await assess();
    if (checkpoints && savedAt < run.step) yield await save();
    const spent = stepSeconds.length > 0 ? average(stepSeconds) : Number.NaN;
    return {
      reason: aborted ? 'aborted' : 'done',
      step: run.step,
      total: run.total,
      tokens: run.tokens,
      skipped: run.skipped,
      seconds: clock() - begin,
      tokensPerSecond: (rows * data.position.length * accumulate) / spent,
      evaluations: run.evaluations,
      heldOutBitsPerByte: run.evaluations.at(-1)?.bitsPerByte ?? null,
    };
  } finally {
    gradients.reset();
    optimiser.dispose();
    await options.metrics?.close();
  }
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function diverged(count: number, loss: number, norm: number): never {
  return fail({
    mechanism: 'train',
    argument: 'gradient',
    wanted: 'finite',
    given: `loss ${loss} and gradient norm ${norm}, ${count} steps in a row`,
    remedy: 'Lower schedule.peak or lengthen schedule.warmup, and resume from the last checkpoint.',
  });
}

function checkOptions(model: TrainableModel, options: TrainOptions): void {
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
