import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeqLoomError, fail } from '@seqloom/core';
import type { HybridModel } from '@seqloom/models';
import { train, WindowData } from '@seqloom/train';
import type { StepMetrics, TrainSummary } from '@seqloom/train';
import { folderCheckpoints, metricsFile, openByteFile } from '@seqloom/train/node';
import { progressView } from './progress.ts';

/** What a training run needs; everything has a default but the text and the folder. */
export interface RunOptions {
  readonly text: string;
  readonly folder: string;
  readonly steps?: number | undefined;
  readonly minutes?: number | undefined;
  readonly rows?: number | undefined;
  readonly length?: number | undefined;
  readonly learningRate?: number | undefined;
  readonly seed?: number | undefined;
  readonly resume?: boolean;
  readonly json: boolean;
}

/** How a run went. */
export interface RunResult {
  readonly summary: TrainSummary;
  readonly steps: readonly StepMetrics[];
}

/** Settings of a run when no flag says otherwise. */
export const runDefaults = { rows: 4, length: 128, learningRate: 4e-3, minutes: 5 } as const;

/**
 * Trains a model on a text file: progress on standard error, metrics and checkpoints in the run's folder.
 *
 * The first Ctrl-C finishes the step, saves and returns; the second one ends at once.
 */
export async function runTraining(model: HybridModel, options: RunOptions): Promise<RunResult> {
  const { folder, json } = options;
  const rows = options.rows ?? runDefaults.rows;
  const peak = options.learningRate ?? runDefaults.learningRate;
  const minutes = options.steps === undefined ? (options.minutes ?? runDefaults.minutes) : undefined;
  const store = await openByteFile(options.text);
  try {
    const data = new WindowData(store, { length: options.length ?? runDefaults.length, seed: options.seed ?? 0 });
    await makeFolder(folder);
    const checkpoints = folderCheckpoints(join(folder, 'checkpoints'));
    if (!options.resume && existsSync(join(folder, 'checkpoints', 'latest.json'))) {
      fail({
        mechanism: 'train',
        argument: '--out',
        wanted: 'a new folder, or given with --resume',
        given: `${folder}, which holds a run`,
        remedy: 'Continue it with --resume, choose another --out, or remove the folder.',
      });
    }
    await writeFile(join(folder, 'config.json'), `${JSON.stringify(model.config, null, 2)}\n`);
    const controller = new AbortController();
    const interrupt = (): void => {
      if (controller.signal.aborted) process.exit(130);
      process.stderr.write('\nsaving after this step; press Ctrl-C again to leave at once\n');
      controller.abort();
    };
    process.on('SIGINT', interrupt);
    process.on('SIGTERM', interrupt);
    const view = progressView(json, minutes);
    const steps: StepMetrics[] = [];
    try {
      const run = train(model, {
        data,
        rows,
        ...(minutes === undefined ? { steps: options.steps! } : { minutes }),
        schedule: { peak, warmup: 30, minimum: peak / 20 },
        optimiser: { beta2: 0.98, weightDecay: 0.05 },
        evaluation: { maxTokens: 16_384 },
        checkpoints,
        metrics: metricsFile(join(folder, 'metrics.jsonl')),
        resume: options.resume ?? false,
        signal: controller.signal,
      });
      for (;;) {
        const { done, value } = await run.next();
        if (done) return { summary: value, steps };
        view.show(value);
        if (value.type === 'step') {
          const { type: _type, total: _total, secondsLeft: _left, ...metrics } = value;
          steps.push(metrics);
        }
      }
    } finally {
      view.close();
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
    }
  } finally {
    await store.close();
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    if (cause instanceof SeqLoomError) throw cause;
    fail({
      mechanism: 'train',
      argument: '--out',
      wanted: 'a folder that can be made',
      given: `${folder} (${(cause as Error).message})`,
      remedy: 'Choose another folder.',
      cause,
    });
  }
}
