import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { deriveSeed, setupBackend } from '@seqloom/core';
import { defaultComponents, HybridModel } from '@seqloom/models';
import type { Components } from '@seqloom/models';
import { RoutingAttention } from '@seqloom/sparse-attention';
import type { RoutingAttentionConfig } from '@seqloom/sparse-attention';
import { accuracy, drawPanels, TaskData, train } from '@seqloom/train';
import { describeMachine, machineLine } from '../../measure/machine.ts';
import { farRecallMarkdown, farRecallPanel } from './report.ts';
import type { FarRecallResult, Run, Sizes } from './report.ts';
import { farRecall } from './task.ts';

const usage = `npm run experiment -- far-recall [options]

Trains models whose attention has a short window, with and without routed heads; results go to bench/results/far-recall.{json,md,svg}.

--seeds N    models per mixer (3)
--steps N    optimiser steps of each model (500)
--out DIR    where the results go (bench/results)
--quick      a few steps: shows that everything works; writes no results unless --out is given
`;

const WINDOW = 8;
const heads = { heads: 4, headDim: 16 };
const mixers = [
  { label: `local window of ${WINDOW}`, definition: { type: 'sliding-window-attention', ...heads, window: WINDOW } },
  {
    label: `local window of ${WINDOW} and routed heads`,
    definition: {
      ...{ type: 'routing-transformer', ...heads, localHeads: 1, localWindow: WINDOW },
      ...{ clusters: 4, window: 16, centroidDecay: 0.99 },
    },
  },
  // with rotary positions its fastest channel is in antiphase at a distance of 16, and the model fails there alone
  { label: 'full attention', definition: { type: 'mha-mqa-gqa', ...heads, rotary: null } },
];
const SIZES: Sizes = {
  length: 64,
  pairs: 3,
  ids: 16,
  distances: [6, 12, 16, 24, 32, 44, 56],
  dim: 48,
  steps: 500,
  rows: 32,
  heldOut: 128,
  peak: 0.01,
};

const components: Components = {
  ...defaultComponents,
  mixers: {
    ...defaultComponents.mixers,
    'routing-transformer': (config) => new RoutingAttention(config as unknown as RoutingAttentionConfig),
  },
};

/** Runs the experiment from the words of its command line; returns the exit code. */
export async function farRecallExperiment(words: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...words],
    options: { seeds: { type: 'string' }, steps: { type: 'string' }, out: { type: 'string' }, quick: { type: 'boolean', default: false } },
  });
  const { quick } = values;
  const seeds = Number(values.seeds ?? (quick ? 1 : 3));
  const sizes = { ...SIZES, steps: Number(values.steps ?? (quick ? 10 : SIZES.steps)), ...(quick ? { heldOut: 32 } : {}) };
  if (![seeds, sizes.steps].every((count) => Number.isInteger(count) && count >= 1)) {
    process.stderr.write(usage);
    return 2;
  }
  const out = values.out ?? (quick ? null : join(import.meta.dirname, '../../results'));
  await setupBackend('wasm');
  const machine = describeMachine();
  const results: FarRecallResult['results'][number][] = [];
  for (const { label, definition } of mixers) {
    const runs: Run[] = [];
    for (let seed = 1; seed <= seeds; seed++) {
      const run = await trainOnce(definition, sizes, seed);
      const shares = run.accuracies.map((share) => share.toFixed(2)).join(' ');
      process.stderr.write(`${label}, seed ${seed}: loss ${run.loss.toFixed(3)}, accuracy ${shares}, ${run.seconds.toFixed(0)} s\n`);
      runs.push(run);
    }
    results.push({ label, definition, runs });
  }
  const result: FarRecallResult = {
    experiment: 'far-recall',
    command: ['far-recall', ...words].join(' '),
    machine,
    sizes,
    window: WINDOW,
    results,
  };
  const page = farRecallMarkdown(result, out === null ? null : 'far-recall.svg');
  if (out !== null) {
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, 'far-recall.json'), `${JSON.stringify(result, null, 2)}\n`);
    writeFileSync(join(out, 'far-recall.md'), page);
    writeFileSync(join(out, 'far-recall.svg'), drawPanels(machineLine(machine), [farRecallPanel(result)]));
  }
  process.stdout.write(page);
  return 0;
}

/** Trains one two-layer model on all distances and scores each. */
async function trainOnce(definition: { readonly type: string }, sizes: Sizes, seed: number): Promise<Run> {
  const { ids, dim, steps, rows, distances, heldOut, peak } = sizes;
  const began = process.cpuUsage();
  const tasks = distances.map((distance) => farRecall(sizes, distance));
  const model = new HybridModel(
    {
      vocabSize: 3 * ids,
      dim,
      mixers: 'shift, mixer',
      channels: 'none',
      definitions: { shift: { type: 'gated-convolution', kernelSize: 3, expand: 1 }, mixer: definition },
      tieEmbeddings: false,
      initialDeviation: 0.5,
      logitScale: 0.25,
      seed,
    },
    components,
  );
  try {
    const data = new TaskData(
      tasks.map((task) => ({ task })),
      { seed },
    );
    const last: number[] = [];
    const schedule = { shape: 'cosine', peak, warmup: Math.ceil(steps / 20) } as const;
    for await (const event of train(model, { data, steps, rows, schedule, evaluateEvery: null })) {
      if (event.type === 'step' && event.step > 0.9 * steps) last.push(event.loss);
    }
    const accuracies: number[] = [];
    for (const [index, task] of tasks.entries()) {
      const held = new TaskData([{ task }], { seed: deriveSeed(index, 'report'), heldOut });
      accuracies.push((await accuracy(model, held.evaluation(rows))).accuracy);
    }
    const { user, system } = process.cpuUsage(began);
    const loss = last.reduce((sum, each) => sum + each, 0) / last.length;
    return { seed, loss, accuracies, parameters: model.countParameters(), seconds: (user + system) / 1e6 };
  } finally {
    model.dispose();
  }
}
