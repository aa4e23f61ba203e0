import { describe, expect, it } from 'vitest';
import type { Candidate, Case } from './candidate.ts';
import { OURS } from './candidate.ts';
import { directionCheck } from './inputs.ts';
import { interleave, ratioOf } from './interleave.ts';
import { equals, relativeError } from './parity.ts';
import { fmaLoop, LOOP_FLOPS, measurePeak, peakModule } from './peak.ts';
import { runCase } from './run-suite.ts';

const timing = { samples: 3, sampleMs: 0, warmMs: 0, budgetMs: 100 };
const options = { command: 'sum --quick', quick: true, peers: [], clock: 'wall', tooSlowMs: 1000, say: () => undefined } as const;

function candidate(name: string, values: number[], calls: string[] = []): Candidate {
  return { name, implementation: 'a list', run: () => void calls.push(name), outputs: () => ({ sum: values }) };
}

function sumCase(candidates: readonly Candidate[]): Case {
  return { name: 'sum', work: { flops: 2e6, tokens: 10 }, prepare: () => ({ candidates, checks: [equals('sum', [1, 2, 3])] }) };
}

describe('a case', () => {
  it('refuses to time what the oracle or the other candidates contradict, and what fails', async () => {
    const calls: string[] = [];
    const failing: Candidate = {
      ...candidate('failing', [], calls),
      outputs: () => {
        throw new Error('no such operator');
      },
    };
    const candidates = [
      candidate(OURS, [1, 2, 3], calls),
      candidate('wrong', [1, 2, 4], calls),
      candidate('short', [1, 2], calls),
      failing,
    ];
    const result = await runCase(sumCase(candidates), null, timing, options);
    expect(result.rows.map((row) => row.candidate)).toEqual([OURS]);
    expect(result.refused.map(({ name, reason }) => `${name}: ${reason.slice(0, 13)}`)).toEqual([
      'wrong: parity is red',
      'short: parity is red',
      'failing: does not run:',
    ]);
    expect(new Set(calls)).toEqual(new Set([OURS]));
  });

  it('compares candidates with one another where no oracle speaks', async () => {
    const loose: Case = {
      ...sumCase([]),
      prepare: () => ({ candidates: [candidate(OURS, [1, 2]), candidate('peer', [1, 2.1])], checks: [] }),
    };
    const result = await runCase(loose, null, timing, options);
    expect(result.refused[0]).toMatchObject({ name: 'peer', reason: expect.stringContaining(`from ${OURS}`) as string });
  });

  it('derives rates from the medians, and a share of the peak from the loop beside it', async () => {
    const loop: string[] = [];
    const candidates = [candidate(OURS, [1, 2, 3]), candidate('peer', [1, 2, 3])];
    const result = await runCase(sumCase(candidates), { run: () => void loop.push('loop'), best: 1 }, timing, options);
    const [ours, peer] = result.rows;
    expect(result.rows).toHaveLength(2);
    expect(ours).toMatchObject({ ratio: 1, implementation: 'a list' });
    expect(peer!.ratio).toBeGreaterThan(0);
    expect(loop.length).toBeGreaterThanOrEqual(timing.samples);
    expect(ours!.ofPeak).toBeGreaterThan(0);
    expect(ours!.tokensPerSecond).toBeCloseTo(10_000 / ours!.ms, 5);
  });

  it('holds a candidate to its own checks and counts its own work, where it has them', async () => {
    const half: Candidate = { ...candidate('half', [1]), checks: [equals('sum', [1])], work: { flops: 1e6 } };
    const { rows, refused } = await runCase(sumCase([half]), null, timing, options);
    expect(refused).toEqual([]);
    expect(rows[0]!.gflops).toBeCloseTo(1 / rows[0]!.ms, 5);
    expect(rows[0]!.tokensPerSecond).toBeNull();
  });
});

describe('a case on a GPU', () => {
  it('is timed after the call that compiles, to the end of its work, and shows its counts', async () => {
    const calls: string[] = [];
    const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));
    const late: Candidate = {
      ...candidate(OURS, [1, 2, 3], calls),
      enter: () => void calls.push('enter'),
      outputs: async () => {
        await wait(300);
        return { sum: [1, 2, 3] };
      },
      finish: async () => {
        calls.push('finish');
        await wait(20);
      },
      count: async () => ({ submits: 2 }),
    };
    const [row] = (await runCase(sumCase([late]), null, timing, options)).rows;
    expect(row).toMatchObject({ facts: { submits: 2 }, ofPeak: null, peakHeapBytes: null });
    expect(row!.ms).toBeGreaterThan(19);
    expect(row!.ms).toBeLessThan(200);
    expect(calls.slice(0, 3)).toEqual(['enter', OURS, 'finish']);
  });
});

describe('measuring', () => {
  function wait(milliseconds: number): void {
    const start = performance.now();
    while (performance.now() - start < milliseconds);
  }

  it('takes turns, each round beginning with the next candidate', async () => {
    const order: string[] = [];
    const timed = ['a', 'b'].map((name) => ({ name, run: () => undefined, enter: async () => void order.push(name) }));
    const { times } = await interleave(timed, { ...timing, sampleMs: 1e-9 });
    // warm-up first, then ab, ba, ab
    expect(order.join('')).toBe('ababbaab');
    expect(times.get('a')!.wall.samples).toBe(3);
  });

  it('takes samples again beside which the probe is slow, and leaves them out', async () => {
    // the probe runs before and after each sample: its third to sixth run fall into the second and third round
    let probes = 0;
    const probe = { run: () => void (probes++ >= 2 && probes <= 6 && wait(50)), best: 40 };
    const { times, samples, disturbed } = await interleave([{ name: 'a', run: () => undefined }], { ...timing, sampleMs: 1e-9 }, probe);
    expect([samples, disturbed]).toEqual([5, 2]);
    expect(times.get('a')!.wall.samples).toBe(3);
    expect(times.get('a')!.rounds.map((sample) => sample.disturbed)).toEqual([false, true, true, false, false]);
  });

  it('measures a machine that is never quiet as it is', async () => {
    const probe = { run: () => wait(0.1), best: 0 };
    const { times, samples, disturbed } = await interleave([{ name: 'a', run: () => undefined }], { ...timing, sampleMs: 1e-9 }, probe);
    expect([samples, disturbed]).toEqual([12, 12]);
    expect(times.get('a')!.wall.samples).toBe(12);
  });

  it('takes ratios within rounds, of quiet samples where they are half of all or six', async () => {
    const { times } = await interleave([{ name: 'a', run: () => undefined }], timing);
    const of = (...wall: number[]) => ({
      ...times.get('a')!,
      rounds: wall.map((each) => ({ wall: Math.abs(each), cpu: 1, disturbed: each < 0 })),
    });
    expect(ratioOf(of(2, 20, 20), of(1, 1, 10), 'wall')).toBe(2);
    expect(ratioOf(of(3, 8), of(1), 'wall')).toBe(3);
    expect(ratioOf(of(2, -9, 2, 2, -9, -9), of(1, -1, 1, 1, -1, -1), 'wall')).toBe(2);
    expect(ratioOf(of(-9, -9, 2), of(-1, -1, 1), 'wall')).toBe(9);
    const disturbed = Array.from({ length: 20 }, () => -9);
    const rounds = (quiet: number) => of(...disturbed, ...Array.from({ length: quiet }, () => 2));
    const ones = of(...Array.from({ length: 26 }, () => 1));
    expect([rounds(5), rounds(6)].map((of26) => ratioOf(of26, ones, 'wall'))).toEqual([9, 2]);
  });

  it('holds gradients to central differences of a loss in double precision', () => {
    const inputs = { x: { shape: [3], data: Float32Array.of(1, 2, 3) } };
    const check = directionCheck(inputs, ({ x }) => x!.data.reduce((sum, value) => sum + value ** 3, 0));
    expect(check({ 'gradient of x': [3, 12, 27] })).toBeNull();
    expect(check({ 'gradient of x': [3, 12, 28] })).toContain('central differences');
  });

  it('counts lengths and infinities as errors', () => {
    expect(relativeError([1, 2], [1, 2])).toBe(0);
    expect(relativeError([1], [1, 2])).toBe(Infinity);
    expect(relativeError([-Infinity, 1], [-Infinity, 1])).toBe(0);
    expect(relativeError([Number.NaN], [1])).toBe(Infinity);
  });

  it('runs the FMA loop with both instruction sets', async () => {
    expect(WebAssembly.validate(peakModule(false)) && WebAssembly.validate(peakModule(true))).toBe(true);
    const { simd, relaxed } = await measurePeak(1);
    expect(simd).toBeGreaterThan(0.5);
    expect(relaxed).toBeGreaterThan(0.5);
    const start = performance.now();
    (await fmaLoop(true))!();
    expect(LOOP_FLOPS / (performance.now() - start) / 1e6).toBeGreaterThan(0.1);
  });
});
