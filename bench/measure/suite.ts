import type { PeerName, Peers, SkippedPeer } from '../peers/load.ts';
import type { Panel } from '@seqloom/train';
import { FORWARD_ALONE } from './candidate.ts';
import type { Case, Work } from './candidate.ts';
import type { Probe, TimingSettings } from './interleave.ts';
import type { Machine } from './machine.ts';
import type { Peak } from './peak.ts';
import type { KernelShare } from './profile.ts';
import type { Spread } from './statistics.ts';

/** The GPU that a suite runs on. */
export interface Gpu {
  /** vendor, architecture and description of the adapter */
  readonly adapter: string;
  /** whether it is emulated on the processor */
  readonly software: boolean;
}

/** What became ready at the start of a suite. */
export interface Started {
  /** label of our kernels */
  readonly kernels: string;
  readonly gpu: Gpu | null;
  /** the processor's ceiling, where that is what a suite is held to */
  readonly peak: Peak | null;
  /** the FMA loop of the build in use, timed in turns with the candidates */
  readonly loop: Probe | null;
  /** packages with their versions */
  readonly versions: Readonly<Record<string, string>>;
  /** what this place asks for instead of the usual timing */
  readonly timing: Partial<TimingSettings>;
}

/** What a suite's cases are made of. */
export interface Bench {
  readonly gpu: Gpu | null;
  /** small sizes, to see that everything works */
  readonly quick: boolean;
  readonly peers: Peers;
}

/** Figures of one candidate in one case. */
export interface Row {
  readonly candidate: string;
  /** what really ran, from the kernel report */
  readonly implementation: string;
  /** milliseconds of one call on the wall clock, and in processor time */
  readonly wall: Spread;
  readonly cpu: Spread;
  /** calls per sample */
  readonly repeats: number;
  /** median of the chosen clock, in milliseconds */
  readonly ms: number;
  /** this candidate's time over the baseline's, the median of the rounds: above 1, the baseline is faster */
  readonly ratio: number | null;
  readonly gflops: number | null;
  /** share of what the FMA loop of the build in use reaches in the same rounds, the median */
  readonly ofPeak: number | null;
  /** bytes of inputs and outputs over the time */
  readonly gbPerSecond: number | null;
  readonly tokensPerSecond: number | null;
  /** bytes held at once on tfjs-wasm's heap during a call, outputs included */
  readonly peakHeapBytes: number | null;
  readonly facts: Readonly<Record<string, number>>;
}

/** One case, measured. */
export interface CaseResult {
  readonly name: string;
  readonly series: string | null;
  readonly x: number | null;
  readonly work: Work;
  readonly rows: readonly Row[];
  /** samples of all candidates, and those of them during which something else used the processor */
  readonly samples: number;
  readonly disturbed: number;
  /** candidates that were not timed: red parity, too slow, or unable */
  readonly refused: readonly SkippedPeer[];
  /** one call of ours, kernel by kernel, where the case asks for it */
  readonly profile: readonly KernelShare[] | null;
}

/** A floor and what was reached. */
export interface Floor {
  readonly what: string;
  readonly wanted: string;
  /** null when a peer is missing */
  readonly measured: number | null;
  readonly met: boolean | null;
  /** why nobody can say whether it is met, e.g. that it needs a GPU */
  readonly open?: string;
}

/** Everything that one run found. */
export interface SuiteResult {
  readonly suite: string;
  readonly title: string;
  readonly about: string;
  /** the command's words after `npm run bench --` */
  readonly command: string;
  readonly quick: boolean;
  readonly clock: 'wall' | 'cpu';
  readonly kernels: string;
  /** the candidate that ratios are taken to */
  readonly baseline: string;
  readonly machine: Machine;
  readonly warning: string | null;
  readonly gpu: Gpu | null;
  readonly peak: Peak | null;
  readonly timing: TimingSettings;
  readonly peers: { readonly versions: Readonly<Record<string, string>>; readonly skipped: readonly SkippedPeer[] };
  readonly cases: readonly CaseResult[];
  readonly floors: readonly Floor[];
  readonly notes: readonly string[];
}

/** A benchmark suite: cases, and what is read from their results. */
export interface Suite {
  readonly name: string;
  readonly title: string;
  readonly about: string;
  /** peers that have an operator for this; others are not installed for it */
  readonly peers: readonly PeerName[];
  /** the candidate that ratios are taken to; our own when left out */
  readonly baseline?: string;
  /** makes tfjs and our kernels ready; on tfjs-wasm when left out */
  start?(): Promise<Started>;
  cases(bench: Bench): readonly Case[];
  floors?(results: readonly CaseResult[], bench: Bench): readonly Floor[];
  notes?(results: readonly CaseResult[], bench: Bench): readonly string[];
  panels?(results: readonly CaseResult[]): readonly Panel[];
}

/** A row of a case, when it was measured. */
export function rowOf(results: readonly CaseResult[], name: string, candidate: string): Row | undefined {
  return results.find((result) => result.name === name)?.rows.find((row) => row.candidate === candidate);
}

/** How many times as long forward and backward take as forward alone, in a case that times both. */
export function bothOverForward(results: readonly CaseResult[], name: string): number | undefined {
  const ratio = rowOf(results, name, FORWARD_ALONE)?.ratio;
  return ratio ? 1 / ratio : undefined;
}

/** A floor on a figure that should be large (`at least`) or small (`at most`). */
export function floor(what: string, bound: 'at least' | 'at most', limit: number, measured: number | null | undefined, unit = 'x'): Floor {
  const value = measured ?? null;
  return {
    what,
    wanted: `${bound} ${limit}${unit}`,
    measured: value,
    met: value === null ? null : bound === 'at least' ? value >= limit : value <= limit,
  };
}
