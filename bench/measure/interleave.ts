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

/** Milliseconds by the clock on the wall, and in processor time of this process. */
export interface Took {
  readonly wall: number;
  readonly cpu: number;
}

/** Milliseconds of one call. */
export interface Timing {
  readonly wall: Spread;
  readonly cpu: Spread;
  /** the same of every round, in their order */
  readonly rounds: readonly Took[];
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
 * besides falls on all alike.
 *
 * @returns times by name
 */
export async function interleave(candidates: readonly Timed[], settings: TimingSettings): Promise<Map<string, Timing>> {
  const rows: { timed: Timed; repeats: number; rounds: Took[]; spent: number }[] = [];
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
    rows.push({ timed, repeats, rounds: [], spent: timed.known?.wall ?? 0 });
  }
  for (let round = 0; round < settings.samples; round++) {
    for (let turn = 0; turn < rows.length; turn++) {
      const row = rows[(turn + round) % rows.length]!;
      const known = row.timed.known ? 1 : 0;
      if (known + row.rounds.length >= 3 && row.spent > settings.budgetMs) continue;
      await row.timed.enter?.();
      // between samples the collector has a chance, so that one candidate's garbage is not another's pause
      globalThis.gc?.();
      const [start, startCpu] = [performance.now(), cpuMs()];
      await repeat(row.timed, row.repeats);
      const [wall, cpu] = [performance.now() - start, cpuMs() - startCpu];
      row.rounds.push({ wall: wall / row.repeats, cpu: cpu / row.repeats });
      row.spent += wall;
    }
  }
  return new Map(
    rows.map(({ timed, repeats, rounds }) => {
      const all = [...(timed.known ? [timed.known] : []), ...rounds];
      const spread = (clock: keyof Took): Spread => spreadOf(all.map((took) => took[clock]));
      return [timed.name, { wall: spread('wall'), cpu: spread('cpu'), rounds, repeats }];
    }),
  );
}

/**
 * How many times as long one candidate takes as another: the median of the ratios within rounds. Both samples of a round are of the same
 * moment, so a machine that is slower for some seconds does not turn the ratio, as it turns a ratio of medians.
 */
export function ratioOf(one: Timing, other: Timing, clock: keyof Took): number {
  const ratios = one.rounds.flatMap((took, round) => (other.rounds[round] ? [took[clock] / other.rounds[round][clock]] : []));
  return ratios.length > 0 ? spreadOf(ratios).median : one[clock].median / other[clock].median;
}
