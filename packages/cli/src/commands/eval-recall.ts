import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '@seqloom/core';
import type { Hybrid } from '@seqloom/models';
import { digits, RECALL_TASKS, recallSet, scoreRecall, TaskData, train } from '@seqloom/train';
import type { CurvePanel, RecallScore, RecallSet, RecallTaskName } from '@seqloom/train';
import { folderCheckpoints } from '@seqloom/train/node';
import type { BackendFlags, ModelOptions } from '../model.ts';
import { loadModel, startBackend } from '../model.ts';
import { readableBytes, table } from '../output.ts';
import { progressView } from '../progress.ts';
import { deliver, pieceFor } from './evaluation.ts';
import type { EvaluationFlags } from './evaluation.ts';

/** Flags of `seqloom eval recall`. */
export interface EvalRecallFlags extends ModelOptions, BackendFlags, EvaluationFlags {
  readonly tasks?: readonly string[];
  readonly lengths: readonly number[];
  readonly pairs: readonly number[];
  readonly depths: readonly number[];
  readonly segmentLength: number;
  readonly count: number;
  readonly steps?: number;
  readonly batch: number;
  readonly learningRate: number;
  readonly seed: number;
  readonly out?: string;
}

/** One task of what `eval recall` prints as JSON. */
export interface RecallTaskReport {
  readonly task: RecallTaskName;
  /** what `value` of a point counts */
  readonly axis: string;
  /** how the model learned this task; null when it was taken as it is */
  readonly trained: { readonly steps: number; readonly loss: number } | null;
  readonly points: readonly (RecallScore & { readonly stateBytes: number })[];
}

const ROWS = 8;

/** `seqloom eval recall`: accuracy on recall tasks over lengths, pairs and depths, of a checkpoint or of models trained for it first. */
export async function evalRecall(flags: EvalRecallFlags): Promise<void> {
  const names = (flags.tasks ?? RECALL_TASKS) as readonly RecallTaskName[];
  const steps = flags.steps ?? (flags.checkpoint === undefined && flags.model === undefined ? 1000 : 0);
  const say = (line: string): void => {
    if (flags.json !== true) process.stderr.write(`${line}\n`);
  };
  const { backend } = await startBackend(flags);
  let { model } = await loadModel(flags);
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  try {
    const { vocabSize } = model.config;
    const parameters = model.countParameters();
    // all of them before the first one starts
    const sets = names.map((name) => recallSet(name, { ...flags, vocabSize }));
    for (const name of names) refuseRun(flags, name);
    const tasks: RecallTaskReport[] = [];
    for (const [index, name] of names.entries()) {
      const set = sets[index]!;
      if (index > 0 && steps > 0) {
        model.dispose();
        ({ model } = await loadModel(flags));
      }
      if (steps > 0) say(`${name}: training ${parameters.toLocaleString('en')} parameters for ${steps} steps`);
      const trained = steps > 0 ? await learn(model, set, name, steps, flags, controller.signal) : null;
      if (controller.signal.aborted) break;
      const points: RecallTaskReport['points'][number][] = [];
      const options = { count: flags.count, seed: flags.seed, rows: ROWS, piece: pieceFor(ROWS, vocabSize) };
      for await (const score of scoreRecall(model, set.points, options)) {
        points.push({ ...score, stateBytes: model.stateBytes(1, score.length) });
        if (controller.signal.aborted) break;
      }
      tasks.push({ task: name, axis: set.axis, trained, points });
      if (controller.signal.aborted) break;
    }
    const found = { backend, parameters, config: model.config, seed: flags.seed, complete: !controller.signal.aborted, tasks };
    await deliver(flags, found, () => [`${parameters.toLocaleString('en')} parameters on ${backend}`, ...tasks.flatMap(lines)], {
      title: `seqloom eval recall: ${parameters.toLocaleString('en')} parameters${steps > 0 ? `, ${steps} steps for each task` : ''}`,
      panels: tasks.map(panel),
    });
  } finally {
    process.off('SIGINT', stop);
    model.dispose();
  }
}

/** A folder that holds a run is not written over. */
function refuseRun({ out }: EvalRecallFlags, name: RecallTaskName): void {
  if (out === undefined || !existsSync(join(out, name, 'checkpoints', 'latest.json'))) return;
  const given = `${join(out, name)}, which holds a run`;
  fail({ mechanism: 'seqloom', argument: '--out', wanted: 'a new folder', given, remedy: 'Choose another --out, or remove the folder.' });
}

async function learn(
  model: Hybrid,
  { points }: RecallSet,
  name: RecallTaskName,
  steps: number,
  flags: EvalRecallFlags,
  signal: AbortSignal,
): Promise<NonNullable<RecallTaskReport['trained']>> {
  const view = progressView(flags.json === true, undefined);
  const last: number[] = [];
  try {
    const events = train(model, {
      data: new TaskData(points, { seed: flags.seed }),
      steps,
      rows: flags.batch,
      schedule: { shape: 'cosine', peak: flags.learningRate, warmup: Math.ceil(steps / 20) },
      evaluateEvery: null,
      ...(flags.out === undefined ? {} : { checkpoints: folderCheckpoints(join(flags.out, name, 'checkpoints')) }),
      signal,
    });
    for await (const event of events) {
      view.show(event);
      if (event.type === 'step' && event.step > 0.9 * steps) last.push(event.loss);
    }
  } finally {
    view.close();
  }
  return { steps, loss: last.reduce((sum, loss) => sum + loss, 0) / last.length };
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** A table of one task: a row for each length, a column for each number of pairs or depth. */
function lines({ task, axis, trained, points }: RecallTaskReport): string[] {
  const [lengths, values] = [distinct(points, 'length'), distinct(points, 'value')];
  const at = (length: number, value: number) => points.find((point) => point.length === length && point.value === value);
  const told = trained ? `, ${trained.steps} steps to a loss of ${trained.loss.toFixed(3)}` : '';
  return [
    '',
    `${task}${told}; a guess reaches ${[...new Set(points.map(({ chance }) => percent(chance)))].join(', ')}`,
    ...table([
      ['tokens', 'state', ...values.map((value) => `${axis} ${digits(value)}`)],
      ...lengths.map((length) => [
        length,
        readableBytes(points.find((point) => point.length === length)!.stateBytes),
        ...values.map((value) => {
          const point = at(length, value);
          return point ? percent(point.accuracy) : '-';
        }),
      ]),
    ]),
  ];
}

/** Accuracy over length, a line for each of the other values; over those when there is one length only. */
function panel({ task, axis, points }: RecallTaskReport): CurvePanel {
  const [lengths, values] = [distinct(points, 'length'), distinct(points, 'value')];
  const over = lengths.length > 1 || values.length === 1 ? 'length' : 'value';
  const line = (label: string, some: readonly RecallScore[]) => ({
    label,
    points: some.map((point) => ({ x: point[over], y: point.accuracy })).toSorted((a, b) => a.x - b.x),
  });
  const measured =
    over === 'length'
      ? values.map((value) =>
          line(
            `${axis} ${digits(value)}`,
            points.filter((point) => point.value === value),
          ),
        )
      : lengths.map((length) => line(`${length} tokens`, points));
  const places = [...new Set(points.map((point) => point[over]))].toSorted((a, b) => a - b);
  const guess = places.map((x) => ({ x, y: Math.max(...points.filter((point) => point[over] === x).map(({ chance }) => chance)) }));
  return {
    title: task,
    xLabel: over === 'length' ? 'tokens' : axis,
    yLabel: 'share of right answers',
    yRange: [0, 1],
    // a depth may be 0
    ...(over === 'value' && axis === 'depth' ? { xRange: [0, 1] as const } : {}),
    lines: [...measured, { label: 'a guess', points: guess }],
  };
}

function distinct(points: readonly RecallScore[], key: 'length' | 'value'): number[] {
  return [...new Set(points.map((point) => point[key]))].toSorted((a, b) => a - b);
}
