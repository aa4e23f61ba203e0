import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setupBackend } from '@seqloom/core';
import { describeMachine, machineLine } from '../../measure/machine.ts';
import { drawPanels } from '@seqloom/train';
import { openJournal } from '../comparison/journal.ts';
import { candidates } from './candidates.ts';
import type { Candidate } from './candidates.ts';
import { mean, recallMarkdown, recallPanels } from './report.ts';
import type { CandidateResult, RecallResult } from './report.ts';
import { trainOnce } from './train-once.ts';
import type { Run, Sizes } from './train-once.ts';

const usage = `npm run experiment -- recall [options]

Trains two-layer models on multi-query associative recall; results go to bench/results/recall.{json,md,svg}.

--mixers LIST   ${candidates.map(({ name }) => name).join(',')} (all)
--seeds N       models per mixer that are reported (3)
--steps N       optimiser steps of each model
--peaks LIST    learning rates to choose from, for each mixer, with a seed and held-out examples of their own
--out DIR       where the results go (bench/results)
--quick         a few steps: shows that everything works; writes no results unless --out is given
--resume        takes the models that an interrupted run of the same settings finished from runs/recall.jsonl
`;

const TASKS = [
  ...[4, 8, 12].map((pairs) => ({ pairs, updates: 0 })),
  // every pair is written twice, and its second value is the answer
  ...[4, 6, 8].map((pairs) => ({ pairs, updates: pairs })),
];
const SIZES: Sizes = { vocabSize: 64, length: 48, tasks: TASKS, dim: 64, steps: 1500, rows: 16, heldOut: 256 };
const PEAKS = [4e-3, 8e-3];
// the seed that chooses the learning rate is none of those that are reported, which count from 1
const CHOICE = 0;

/** Runs the experiment from the words of its command line; returns the exit code. */
export async function recall(words: readonly string[]): Promise<number> {
  const options = readOptions(words);
  if (!options) {
    process.stderr.write(usage);
    return 2;
  }
  const { chosen, seeds, peaks, sizes, out, resume } = options;
  await setupBackend('wasm');
  const machine = describeMachine();
  const journal = openJournal<Run>(join(import.meta.dirname, '../../../runs/recall.jsonl'), JSON.stringify(sizes), resume);
  const run = async (candidate: Candidate, seed: number, peak: number, set: 'choice' | 'report'): Promise<Run> => {
    const key = JSON.stringify([candidate.definition, seed, peak, set]);
    const known = journal.find(key);
    const result = known ? { ...known, candidate: candidate.name } : await trainOnce(candidate, sizes, seed, peak, set);
    if (!known) journal.add(key, result);
    const scores = result.accuracies.map((share) => share.toFixed(3)).join(' ');
    process.stderr.write(
      `${candidate.name}, seed ${seed}, rate ${peak}: loss ${result.loss.toFixed(3)}, accuracy ${scores}, ${result.seconds.toFixed(0)} s\n`,
    );
    return result;
  };
  const results: CandidateResult[] = [];
  for (const candidate of chosen) {
    const sweep: Run[] = [];
    for (const peak of peaks) sweep.push(await run(candidate, CHOICE, peak, 'choice'));
    const { peak } = sweep.reduce((best, each) => (mean(each.accuracies) > mean(best.accuracies) ? each : best));
    const runs: Run[] = [];
    for (let seed = 1; seed <= seeds; seed++) runs.push(await run(candidate, seed, peak, 'report'));
    results.push({
      name: candidate.name,
      label: candidate.label,
      recurrent: candidate.recurrent,
      definition: candidate.definition,
      peak,
      sweep,
      runs,
    });
  }
  const states = new Set(results.filter(({ recurrent }) => recurrent).map(({ runs }) => runs[0]!.stateFloats));
  if (states.size > 1) throw new Error(`states of different sizes: ${[...states].join(', ')} floats`);
  const result: RecallResult = { experiment: 'recall', command: ['recall', ...words].join(' '), machine, sizes, peaks, results };
  const page = recallMarkdown(result, out === null ? null : 'recall.svg');
  if (out !== null) {
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, 'recall.json'), `${JSON.stringify(result, null, 2)}\n`);
    writeFileSync(join(out, 'recall.md'), page);
    writeFileSync(join(out, 'recall.svg'), drawPanels(machineLine(machine), recallPanels(result)));
  }
  process.stdout.write(page);
  return 0;
}

interface Options {
  readonly chosen: readonly Candidate[];
  readonly seeds: number;
  readonly peaks: readonly number[];
  readonly sizes: Sizes;
  readonly out: string | null;
  readonly resume: boolean;
}

/** Null when the words are not understood. */
function readOptions(words: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...words],
    options: {
      mixers: { type: 'string', default: candidates.map(({ name }) => name).join(',') },
      seeds: { type: 'string' },
      steps: { type: 'string' },
      peaks: { type: 'string' },
      out: { type: 'string' },
      quick: { type: 'boolean', default: false },
      resume: { type: 'boolean', default: false },
    },
  });
  const { quick, resume } = values;
  const names = values.mixers.split(',');
  const chosen = candidates.filter(({ name }) => names.includes(name));
  const sizes = { ...SIZES, steps: Number(values.steps ?? (quick ? 20 : SIZES.steps)), ...(quick ? { heldOut: 32 } : {}) };
  const seeds = Number(values.seeds ?? (quick ? 1 : 3));
  const peaks = values.peaks?.split(',').map(Number) ?? (quick ? [5e-3] : PEAKS);
  const counts = [sizes.steps, seeds].every((count) => Number.isInteger(count) && count >= 1);
  if (chosen.length !== names.length || !counts || !peaks.every((peak) => peak > 0)) return null;
  return { chosen, seeds, peaks, sizes, resume, out: values.out ?? (quick ? null : join(import.meta.dirname, '../../results')) };
}
