import * as tf from '@tensorflow/tfjs-core';
import { resetKernelRuns } from '@seqloom/core';
import type { PeerName, SkippedPeer } from '../peers/load.ts';
import { loadPeers } from '../peers/load.ts';
import type { Candidate, Case, Outputs, Work } from './candidate.ts';
import { OURS } from './candidate.ts';
import { peakHeap } from './heap.ts';
import { cpuMs, interleave, ratioOf } from './interleave.ts';
import type { Probe, Timed, Timing, TimingSettings, Took } from './interleave.ts';
import { describeMachine, loadWarning } from './machine.ts';
import { disagreement } from './parity.ts';
import { fmaLoop, LOOP_FLOPS, measurePeak } from './peak.ts';
import { profileKernels } from './profile.ts';
import type { Bench, CaseResult, Row, Started, Suite, SuiteResult } from './suite.ts';
import { implementationReport, startTfjs, useBackend } from './tfjs.ts';

/** How a suite is run. */
export interface RunOptions {
  /** the command's words, for the report */
  readonly command: string;
  readonly quick: boolean;
  /** part of the names of the cases to run; all when left out */
  readonly only?: string | undefined;
  readonly peers: readonly PeerName[];
  /** which clock the medians, ratios and rates are taken from; processor time is steadier on a busy machine */
  readonly clock: 'wall' | 'cpu';
  readonly build?: 'simd' | 'relaxed' | undefined;
  /** milliseconds of one call beyond which a peer is not timed */
  readonly tooSlowMs: number;
  /** milliseconds of samples per candidate and case */
  readonly budgetMs?: number | undefined;
  readonly say: (line: string) => void;
}

const full: TimingSettings = { samples: 11, sampleMs: 15, warmMs: 150, budgetMs: 2500 };
const quick: TimingSettings = { samples: 3, sampleMs: 2, warmMs: 10, budgetMs: 500 };

async function startWasm({ build, quick: short }: RunOptions): Promise<Started> {
  const kernels = await startTfjs(build);
  const versions = { '@tensorflow/tfjs-backend-wasm': tf.version_core };
  const peak = await measurePeak(short ? 20 : 400);
  const relaxed = kernels.includes('relaxed');
  const run = await fmaLoop(relaxed);
  const loop = run && { run, best: LOOP_FLOPS / (relaxed ? peak.relaxed! : peak.simd) / 1e6 };
  return { kernels, gpu: null, peak, loop, versions, timing: {} };
}

/** Runs a suite: parity first, then times in turns. */
export async function runSuite(suite: Suite, options: RunOptions): Promise<SuiteResult> {
  const machine = describeMachine();
  const warning = loadWarning(machine);
  if (warning) options.say(`warning: ${warning}`);
  const started = await (suite.start?.() ?? startWasm(options));
  const { kernels, gpu, peak, loop } = started;
  const peers = await loadPeers(options.peers.filter((name) => suite.peers.includes(name)));
  for (const { name, reason } of peers.skipped) options.say(`skipped ${name}: ${reasonOf(suite, name, reason)}`);
  const timing = {
    ...(options.quick ? quick : { ...full, ...started.timing }),
    ...(options.budgetMs !== undefined && { budgetMs: options.budgetMs }),
  };
  const bench: Bench = { quick: options.quick, peers, gpu };
  const cases: CaseResult[] = [];
  for (const each of suite.cases(bench)) {
    if (options.only && !each.name.includes(options.only)) continue;
    options.say(each.name);
    const own = { ...timing, budgetMs: timing.budgetMs * (each.budgets ?? 1) };
    const result = await runCase(each, loop, own, options, suite.baseline);
    for (const { name, reason } of result.refused) options.say(`  not timed: ${name}: ${reason}`);
    for (const row of result.rows) options.say(`  ${row.candidate}: ${row.ms.toPrecision(3)} ms (${row.implementation})`);
    cases.push(result);
  }
  return {
    suite: suite.name,
    title: suite.title,
    about: suite.about,
    command: options.command,
    quick: options.quick,
    clock: options.clock,
    kernels,
    baseline: suite.baseline ?? OURS,
    machine: gpu ? { ...machine, gpu: gpu.adapter } : machine,
    warning,
    gpu,
    peak,
    timing,
    peers: {
      versions: { ...started.versions, ...peers.versions },
      skipped: peers.skipped.map(({ name, reason }) => ({ name, reason: reasonOf(suite, name, reason) })),
    },
    cases,
    // small sizes say nothing about floors
    floors: options.quick
      ? []
      : (suite.floors?.(cases, bench) ?? []).filter(({ measured }) => measured !== null || options.only === undefined),
    notes: suite.notes?.(cases, bench) ?? [],
  };
}

function reasonOf(suite: Suite, name: string, reason: string): string {
  return suite.peers.some((peer) => peer === name) ? reason : 'has no operator for this suite';
}

/** Holds the candidates of a case to its checks and to one another, and times those that pass. */
export async function runCase(
  each: Case,
  loop: Probe | null,
  timing: TimingSettings,
  options: RunOptions,
  baseline = OURS,
): Promise<CaseResult> {
  const prepared = await each.prepare();
  const refused: SkippedPeer[] = [...(prepared.skipped ?? [])];
  const green: { candidate: Candidate; implementation: string; first: { wall: number; cpu: number } }[] = [];
  try {
    // the first green result of each output is what later candidates are compared with
    const standard = new Map<string, { name: string; values: ArrayLike<number> }>();
    for (const candidate of prepared.candidates) {
      const refuse = (reason: string): void => void refused.push({ name: candidate.name, reason });
      try {
        await enter(candidate);
        resetKernelRuns();
        const [outputs, firstCall] = await timed(() => candidate.outputs());
        const implementation = candidate.implementation ?? implementationReport();
        const fault = faultOf(candidate.checks ?? prepared.checks, outputs) ?? disagreement(outputs, standard, prepared.agreement ?? 1e-4);
        if (!fault) {
          for (const [name, values] of Object.entries(outputs))
            if (!standard.has(name)) standard.set(name, { name: candidate.name, values });
        }
        const first = !fault && candidate.finish ? await secondCall(candidate) : firstCall;
        if (fault) refuse(`parity is red: ${fault}`);
        else if (first.wall > options.tooSlowMs && candidate.name !== baseline)
          refuse(`one call took ${(first.wall / 1000).toFixed(1)} s, too long to be repeated`);
        else green.push({ candidate, implementation: implementation || 'tfjs ops', first });
      } catch (error) {
        refuse(`does not run: ${(error as Error).message.split('\n')[0]}`);
      }
    }
    const timings = green.map(({ candidate, first }): Timed => ({
      name: candidate.name,
      run: () => candidate.run(),
      ...(candidate.finish && { finish: () => candidate.finish!() }),
      enter: () => enter(candidate),
      // what takes seconds is not repeated more than needed
      ...(first.wall > timing.budgetMs && { known: first }),
    }));
    const { times, samples, disturbed } = await interleave(
      [...timings, ...(loop ? [{ name: LOOP, run: loop.run }] : [])],
      timing,
      // a few milliseconds say whether the processor is ours
      loop && { best: loop.best * PROBES, run: () => repeated(PROBES, loop.run) },
    );
    const rows: Row[] = [];
    for (const { candidate, implementation } of green) {
      let peakHeapBytes: number | null = null;
      await enter(candidate);
      if (candidate.backend && !candidate.finish) peakHeapBytes = await peakHeap(() => candidate.run());
      const facts = { ...prepared.facts?.[candidate.name], ...(await candidate.count?.()) };
      rows.push({
        ...figures(candidate.work ?? each.work, times.get(candidate.name)!, times.get(baseline), times.get(LOOP), options),
        candidate: candidate.name,
        implementation,
        peakHeapBytes,
        facts,
      });
    }
    const ourCandidate = each.profiled ? green.find(({ candidate }) => candidate.name === OURS)?.candidate : undefined;
    if (ourCandidate) await enter(ourCandidate);
    const profile = ourCandidate?.backend ? await profileKernels(ourCandidate.backend, () => ourCandidate.run()) : null;
    return { name: each.name, series: each.series ?? null, x: each.x ?? null, work: each.work, rows, samples, disturbed, refused, profile };
  } finally {
    prepared.candidates.forEach((candidate) => candidate.dispose?.());
    prepared.dispose?.();
  }
}

function repeated(times: number, run: () => void): void {
  for (let call = 0; call < times; call++) run();
}

async function enter(candidate: Candidate): Promise<void> {
  if (candidate.backend) await useBackend(candidate.backend);
  candidate.enter?.();
}

async function timed<T>(run: () => T | Promise<T>): Promise<[T, Took]> {
  const [start, startCpu] = [performance.now(), cpuMs()];
  const result = await run();
  return [result, { wall: performance.now() - start, cpu: cpuMs() - startCpu }];
}

/** Calls of the FMA loop that tell whether something disturbs. */
const PROBES = 4;

/** The FMA loop among the candidates of a case. */
const LOOP = '(loop of fused multiply-adds)';

/** A call after the one that compiled. */
async function secondCall(candidate: Candidate): Promise<Took> {
  const [, took] = await timed(async () => {
    await candidate.run();
    await candidate.finish!();
  });
  return took;
}

function faultOf(checks: readonly ((outputs: Outputs) => string | null)[], outputs: Outputs): string | null {
  for (const check of checks) {
    const fault = check(outputs);
    if (fault) return fault;
  }
  return null;
}

function figures(
  work: Work,
  time: Timing,
  baseline: Timing | undefined,
  loop: Timing | undefined,
  { clock }: RunOptions,
): Omit<Row, 'candidate' | 'implementation' | 'peakHeapBytes' | 'facts'> {
  const { rounds: _, ...spreads } = time;
  const ms = time[clock].median;
  return {
    ...spreads,
    ms,
    ratio: baseline === undefined ? null : ratioOf(time, baseline, clock),
    gflops: work.flops === undefined ? null : work.flops / ms / 1e6,
    ofPeak: work.flops === undefined || loop === undefined ? null : work.flops / LOOP_FLOPS / ratioOf(time, loop, clock),
    gbPerSecond: work.bytes === undefined ? null : work.bytes / ms / 1e6,
    tokensPerSecond: work.tokens === undefined ? null : (work.tokens / ms) * 1000,
  };
}
