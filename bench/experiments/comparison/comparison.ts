import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setupBackend } from '@seqloom/core';
import type { Components } from '@seqloom/models';
import { describeMachine, machineLine } from '../../measure/machine.ts';
import type { Machine } from '../../measure/machine.ts';
import { drawPanels } from '@seqloom/train';
import type { Panel } from '@seqloom/train';
import { openJournal } from './journal.ts';
import { finalMean } from './report.ts';
import { openPool, serveJobs } from './pool.ts';
import type { Job } from './pool.ts';
import { trainModel } from './train-model.ts';
import type { Candidate, Run, Sizes } from './train-model.ts';

/** An experiment that trains several models on one task and compares what they learn. */
export interface Comparison {
  readonly name: string;
  /** what it does, for the usage text */
  readonly summary: string;
  readonly components: Components;
  readonly candidates: readonly Candidate[];
  readonly sizes: Sizes;
  /** learning rates to choose from */
  readonly peaks: readonly number[];
  /** models that are reported of each kind, default 3 */
  readonly seeds?: number;
  /** models that are trained at a time, each in a process of its own, default 1 */
  readonly jobs?: number;
  panels(result: ComparisonResult): readonly Panel[];
  /** the page; `figure` is the picture's file name */
  markdown(result: ComparisonResult, figure: string | null): string;
}

/** One candidate: the models that chose its learning rate, and those that are reported. */
export interface CandidateResult {
  readonly name: string;
  readonly label: string;
  readonly model: Candidate['model'];
  readonly tasks: readonly string[];
  readonly peak: number;
  readonly sweep: readonly Run[];
  readonly runs: readonly Run[];
}

/** Everything that a comparison found. */
export interface ComparisonResult {
  readonly experiment: string;
  readonly command: string;
  readonly machine: Machine;
  readonly sizes: Sizes;
  readonly peaks: readonly number[];
  readonly results: readonly CandidateResult[];
}

// the seed that chooses the learning rate is none of those that are reported, which count from 1
const CHOICE = 0;

/** Runs a comparison from the words of its command line; returns the exit code. */
export async function runComparison(comparison: Comparison, words: readonly string[]): Promise<number> {
  const train = ({ candidate, sizes, seed, peak, set }: Job): Promise<Run> =>
    trainModel(
      comparison.candidates.find(({ name }) => name === candidate)!,
      comparison.components,
      sizes,
      { seed, peak, set },
    );
  if (words[0] === '--worker') return serveJobs(train);
  const options = readOptions(comparison, words);
  if (!options) {
    process.stderr.write(usage(comparison));
    return 2;
  }
  const { name } = comparison;
  const { chosen, seeds, peaks, sizes, out, resume, jobs } = options;
  await setupBackend('wasm');
  const machine = describeMachine();
  const journal = openJournal<Run>(join(import.meta.dirname, `../../../runs/${name}.jsonl`), JSON.stringify(sizes), resume);
  const pool = openPool(name, jobs, train);
  const run = async (candidate: Candidate, seed: number, peak: number, set: Job['set']): Promise<Run> => {
    const key = JSON.stringify([candidate.model, candidate.tasks.map((task) => task.name), seed, peak, set]);
    const known = journal.find(key);
    const result = known
      ? { ...known, candidate: candidate.name }
      : await pool.train({ candidate: candidate.name, sizes, seed, peak, set });
    if (!known) journal.add(key, result);
    const scores = result.curve
      .at(-1)!
      .accuracies.map((share) => share.toFixed(3))
      .join(' ');
    process.stderr.write(
      `${candidate.name}, seed ${seed}, rate ${peak}: loss ${result.loss.toFixed(3)}, accuracy ${scores}, ${result.seconds.toFixed(0)} s\n`,
    );
    return result;
  };
  const compare = async (candidate: Candidate): Promise<CandidateResult> => {
    const sweep = await Promise.all(peaks.map((peak) => run(candidate, CHOICE, peak, 'choice')));
    const { peak } = sweep.reduce((best, each) => (finalMean(each) > finalMean(best) ? each : best));
    const runs = await Promise.all(Array.from({ length: seeds }, (_, index) => run(candidate, 1 + index, peak, 'report')));
    const { label, model, tasks } = candidate;
    return { name: candidate.name, label, model, tasks: tasks.map((task) => task.name), peak, sweep, runs };
  };
  const results = await Promise.all(chosen.map(compare)).finally(() => pool.close());
  const result: ComparisonResult = { experiment: name, command: [name, ...words].join(' '), machine, sizes, peaks, results };
  const page = comparison.markdown(result, out === null ? null : `${name}.svg`);
  if (out !== null) {
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, `${name}.json`), `${JSON.stringify(result, null, 2)}\n`);
    writeFileSync(join(out, `${name}.md`), page);
    writeFileSync(join(out, `${name}.svg`), drawPanels(machineLine(machine), comparison.panels(result)));
  }
  process.stdout.write(page);
  return 0;
}

function usage({ name, summary, candidates, peaks, seeds = 3, jobs = 1 }: Comparison): string {
  return `npm run experiment -- ${name} [options]

${summary}; results go to bench/results/${name}.{json,md,svg}.

--models LIST   ${candidates.map((candidate) => candidate.name).join(',')} (all)
--seeds N       models of each kind that are reported (${seeds})
--steps N       optimiser steps of each model
--peaks LIST    learning rates to choose from (${peaks.join(',')}), for each kind, with a seed and held-out examples of their own
--jobs N        models that are trained at a time, each in a process of its own; the figures do not depend on it (${jobs})
--out DIR       where the results go (bench/results)
--quick         a few steps: shows that everything works; writes no results unless --out is given
--resume        takes the models that an interrupted run of the same settings finished from runs/${name}.jsonl
`;
}

interface Options {
  readonly chosen: readonly Candidate[];
  readonly seeds: number;
  readonly peaks: readonly number[];
  readonly sizes: Sizes;
  readonly out: string | null;
  readonly resume: boolean;
  readonly jobs: number;
}

/** Null when the words are not understood. */
function readOptions(comparison: Comparison, words: readonly string[]): Options | null {
  const values = parseWords(words);
  if (!values) return null;
  const { quick, resume } = values;
  const names = values.models?.split(',') ?? comparison.candidates.map(({ name }) => name);
  const chosen = comparison.candidates.filter(({ name }) => names.includes(name));
  const steps = Number(values.steps ?? (quick ? 10 : comparison.sizes.steps));
  const sizes = { ...comparison.sizes, steps, ...(quick ? { heldOut: 32, scores: 2 } : {}) };
  const seeds = Number(values.seeds ?? (quick ? 1 : (comparison.seeds ?? 3)));
  const jobs = Number(values.jobs ?? comparison.jobs ?? 1);
  const peaks = values.peaks?.split(',').map(Number) ?? (quick ? comparison.peaks.slice(0, 1) : comparison.peaks);
  const counts = [steps, seeds, jobs].every((count) => Number.isInteger(count) && count >= 1);
  if (chosen.length !== names.length || !counts || !peaks.every((peak) => peak > 0)) return null;
  return { chosen, seeds, peaks, sizes, resume, jobs, out: values.out ?? (quick ? null : join(import.meta.dirname, '../../results')) };
}

type Values = {
  models?: string;
  seeds?: string;
  steps?: string;
  peaks?: string;
  jobs?: string;
  out?: string;
  quick: boolean;
  resume: boolean;
};

function parseWords(words: readonly string[]): Values | null {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const options = { models: text, seeds: text, steps: text, peaks: text, jobs: text, out: text, quick: flag, resume: flag };
  try {
    return parseArgs({ args: [...words], options }).values;
  } catch (error) {
    // an option that is not known; the usage text is the answer
    if (error instanceof TypeError) return null;
    throw error;
  }
}
