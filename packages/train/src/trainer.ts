import { fail } from '@seqloom/core';
import { breathe } from './breathe.ts';
import { loadCheckpoint } from './checkpoint/apply.ts';
import type { RunState } from './checkpoint/record.ts';
import { batchLoss, bitsPerByte, evaluate } from './evaluate.ts';
import type { TrainableModel } from './model.ts';
import { AdamW } from './optimiser/adamw.ts';
import { clipScale } from './optimiser/clip.ts';
import { GradientSum } from './optimiser/gradient-sum.ts';
import { Pace } from './pace.ts';
import { learningRateAt } from './schedule.ts';
import { checkOptions } from './train-options.ts';
import type { StepMetrics, TrainEvent, TrainOptions, TrainSummary } from './train-options.ts';

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
    let run: RunState = { step: 0, total: null, tokens: 0, skipped: 0, seconds: 0, data: data.position, evaluations: [] };
    const saved = checkpoints && options.resume !== false ? await checkpoints.load() : null;
    if (saved) {
      loadCheckpoint(saved, model, optimiser, data);
      run = saved.run;
    }
    // a total that minutes were turned into stays for good
    run = { ...run, total: options.steps ?? run.total };
    const begin = clock() - run.seconds;
    const pace = new Pace(run.total === null ? options.minutes! * 60 : null);
    const tokensPerStep = rows * accumulate * data.position.length;
    const parameters = optimiser.rules.reduce((sum, { parameter }) => sum + parameter.size, 0);
    await options.metrics?.start(run.step);
    yield { type: 'start', step: run.step, total: run.total, parameters, resumed: saved !== null };

    let skipsInARow = 0;
    let savedAt = saved ? run.step : -1;
    const save = async (): Promise<TrainEvent> => {
      const start = clock();
      run = { ...run, seconds: clock() - begin, data: data.position };
      const weights = await model.stateDict();
      await checkpoints!.save({ run, config: model.config, weights, optimiser: await optimiser.state() });
      savedAt = run.step;
      pace.checkpointSeconds = clock() - start;
      return { type: 'checkpoint', step: run.step };
    };
    const evaluates = options.evaluateEvery !== null;
    const assess = async (): Promise<TrainEvent[]> => {
      if (run.evaluations.at(-1)?.step === run.step) return [];
      const start = clock();
      const result = await evaluate(model, data, { ...options.evaluation, rows, signal });
      // half an evaluation is none
      if (signal?.aborted) return [];
      pace.evaluationSeconds = clock() - start;
      run = { ...run, evaluations: [...run.evaluations, { step: run.step, bitsPerByte: result.bitsPerByte }] };
      return [{ type: 'evaluation', step: run.step, ...result }];
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
        model.afterStep?.();
      }
      run = {
        ...run,
        step: run.step + 1,
        tokens: run.tokens + (finite ? gradients.tokens : 0),
        skipped: run.skipped + (finite ? 0 : 1),
      };
      skipsInARow = finite ? 0 : skipsInARow + 1;
      gradients.reset();
      const seconds = clock() - start;
      pace.add(seconds);
      const metrics: StepMetrics = {
        step: run.step,
        loss,
        bitsPerByte: bitsPerByte(loss, data.bytesPerToken),
        learningRate,
        gradientNorm: norm,
        tokensPerSecond: tokensPerStep / seconds,
        skipped: run.skipped,
      };
      await options.metrics?.write(metrics);
      yield { type: 'step', ...metrics, total: run.total, secondsLeft: pace.secondsLeft(run) };
      if (skipsInARow >= maxSkips) diverged(skipsInARow, loss, norm);
      if (pace.isDue(run, clock() - begin)) {
        if (evaluates && run.total === null) yield* await assess();
        const left = run.total === null ? 1 : 1 - run.step / run.total;
        const evaluationsLeft = evaluates ? 1 + (options.evaluateEvery === 0 ? 0 : Math.ceil(10 * left)) : 0;
        const checkpointsLeft = checkpoints ? 1 + Math.ceil(10 * left) : 0;
        const total = pace.plan(run, clock() - begin, { evaluationsLeft, checkpointsLeft });
        if (total !== run.total) yield { type: 'plan', total };
        run = { ...run, total };
      }
      if (run.total !== null && run.step < run.total) {
        const tenth = Math.ceil(run.total / 10);
        const every = options.evaluateEvery ?? tenth;
        if (evaluates && every > 0 && run.step % every === 0) yield* await assess();
        if (checkpoints && run.step % (options.checkpointEvery ?? tenth) === 0) yield await save();
      }
      await breathe();
    }
    const done = run.step === run.total;
    if (evaluates && done) yield* await assess();
    if (checkpoints && savedAt < run.step) yield await save();
    return {
      reason: done ? 'done' : 'aborted',
      step: run.step,
      total: run.total,
      tokens: run.tokens,
      skipped: run.skipped,
      seconds: clock() - begin,
      tokensPerSecond: tokensPerStep / pace.meanSeconds,
      evaluations: run.evaluations,
      heldOutBitsPerByte: run.evaluations.at(-1)?.bitsPerByte ?? null,
    };
  } finally {
    gradients.reset();
    optimiser.dispose();
    await options.metrics?.close();
  }
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
