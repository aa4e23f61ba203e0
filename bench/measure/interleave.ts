import type { Spread } from './statistics.ts';
import { spreadOf } from './statistics.ts';

/** Something to be timed. */
export interface Timed {
  readonly name: string;
  run(): void | Promise<void>;
  /** times of a call that was made already: the first sample, and warm-up enough */
  readonly known?: Took;
  /** waits for the calls of a sample that only began, inside the time */
  finish?(): Promise<void>;
  /** called before each turn, outside the time */
  enter?(): Promise<void>;
}

/** How long to time. */
export interface TimingSettings {
  /** samples of each candidate */
  readonly samples: number;
  /** least milliseconds of one sample: short calls are repeated */
  readonly sampleMs: number;
  /** milliseconds of warm-up per candidate */
  readonly warmMs: number;
  /** milliseconds after which a candidate takes no more samples, three at least */
  readonly budgetMs: number;
}

/** A loop that says how fast the processor is at this moment. */
export interface Probe {
  /** nothing but arithmetic, for a few milliseconds at most */
  run(): void;
  /** milliseconds of it when nothing disturbs */
  readonly best: number;
}

/** What timing in turns found. */
export interface Timings {
  /** by the candidates' names */
  readonly times: ReadonlyMap<string, Timing>;
  readonly samples: number;
  /** samples before or after which the probe was slower */
  readonly disturbed: number;
}

/** Share of its best time by which the probe may be slower before a sample counts as disturbed. */
const TOLERANCE = 0.12;
/** Rounds at most for every sample asked for: a machine that is never quiet is measured as it is. */
const PATIENCE = 4;

/** Milliseconds by the clock on the wall, and in processor time of this process. */
export interface Took {
  readonly wall: number;
  readonly cpu: number;
}

/** One sample of a round. */
interface Sample extends Took {
  /** whether something else used the processor */
  readonly disturbed: boolean;
}

/** Milliseconds of one call. */
export interface Timing {
  readonly wall: Spread;
  readonly cpu: Spread;
  /** samples by round; a candidate that used its budget up misses the last ones */
  readonly rounds: readonly Sample[];
  /** calls in one sample */
  readonly repeats: number;
}

/** Processor time of this process so far, in milliseconds. */
export const cpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

async function repeat(timed: Timed, times: number): Promise<void> {
  for (let call = 0; call < times; call++) {
    const pending = timed.run();
    if (pending) await pending;
  }
  await timed.finish?.();
}

/**
 * Times candidates in turns: one sample each per round, the order turning by one from round to round, so that what the machine does
 * besides falls on all alike. With a probe, samples during which something else uses the processor are taken again, and left out as long as
 * enough others remain.
 */
export async function interleave(candidates: readonly Timed[], settings: TimingSettings, probe?: Probe | null): Promise<Timings> {
  const rows: { timed: Timed; repeats: number; samples: Sample[]; quiet: number; spent: number }[] = [];
  for (const timed of candidates) {
    await timed.enter?.();
    let [calls, best] = [0, timed.known?.wall ?? Infinity];
    const begin = performance.now();
    while (timed.known === undefined && (calls === 0 || (performance.now() - begin < settings.warmMs && calls < 10_000))) {
      const start = performance.now();
      await repeat(timed, 1);
      best = Math.min(best, performance.now() - start);
      calls++;
    }
    const repeats = Math.max(1, Math.ceil(settings.sampleMs / Math.max(best, 1e-4)));
    rows.push({ timed, repeats, samples: [], quiet: timed.known ? 1 : 0, spent: timed.known?.wall ?? 0 });
  }
  const goesOn = ({ timed, samples, quiet, spent }: (typeof rows)[number]): boolean =>
    samples.length + (timed.known ? 1 : 0) < 3 || spent <= settings.budgetMs * (quiet < 3 ? PATIENCE : 1);
  for (let round = 0; round < settings.samples * PATIENCE; round++) {
    if (rows.every((row) => row.quiet >= settings.samples || !goesOn(row))) break;
    for (let turn = 0; turn < rows.length; turn++) {
      const row = rows[(turn + round) % rows.length]!;
      if (!goesOn(row)) continue;
      await row.timed.enter?.();
      // between samples the collector has a chance, so that one candidate's garbage is not another's pause
      globalThis.gc?.();
      const slowBefore = slowed(probe);
      const [start, startCpu] = [performance.now(), cpuMs()];
      await repeat(row.timed, row.repeats);
      const [wall, cpu] = [performance.now() - start, cpuMs() - startCpu];
      const disturbed = slowed(probe) || slowBefore;
      row.samples[round] = { wall: wall / row.repeats, cpu: cpu / row.repeats, disturbed };
      row.spent += wall;
      if (!disturbed) row.quiet++;
    }
  }
  const times = rows.map(({ timed, repeats, samples }): [string, Timing] => {
    const all = [...(timed.known ? [{ ...timed.known, disturbed: false }] : []), ...samples];
    const spread = (clock: keyof Took): Spread => spreadOf(quietOnes(all).map((sample) => sample[clock]));
    return [timed.name, { wall: spread('wall'), cpu: spread('cpu'), rounds: samples, repeats }];
  });
  const taken = rows.flatMap(({ samples }) => samples);
  return { times: new Map(times), samples: taken.length, disturbed: taken.filter(({ disturbed }) => disturbed).length };
}

/** Quiet samples that say more than all together. */
const ENOUGH = 6;

/**
 * Those that nothing disturbed, or all where too few are: less than half, and fewer than six. Of long samples the probe sees the ends alone,
 * and a median of three is none.
 */
function quietOnes<S extends { readonly disturbed: boolean }>(samples: readonly S[]): readonly S[] {
  const quiet = samples.filter(({ disturbed }) => !disturbed);
  return quiet.length >= Math.max(3, Math.min(ENOUGH, samples.length / 2)) ? quiet : samples;
}

function slowed(probe: Probe | null | undefined): boolean {
  if (!probe) return false;
  const start = performance.now();
  probe.run();
  return performance.now() - start > probe.best * (1 + TOLERANCE);
}

/**
 * How many times as long one candidate takes as another: the median of the ratios within rounds. Both samples of a round are of the same
 * moment, so a machine that is slower for some seconds does not turn the ratio, as it turns a ratio of medians.
 */
export function ratioOf(one: Timing, other: Timing, clock: keyof Took): number {
  const pairs = one.rounds.flatMap((sample, round) => {
    const beside = other.rounds[round];
    return beside ? [{ ratio: sample[clock] / beside[clock], disturbed: sample.disturbed || beside.disturbed }] : [];
  });
  return pairs.length > 0 ? spreadOf(quietOnes(pairs).map(({ ratio }) => ratio)).median : one[clock].median / other[clock].median;
}
