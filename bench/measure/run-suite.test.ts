import { describe, expect, it } from 'vitest';
import type { Candidate, Case } from './candidate.ts';
import { OURS } from './candidate.ts';
import { directionCheck } from './inputs.ts';
import { interleave } from './interleave.ts';
import { equals, relativeError } from './parity.ts';
import { measurePeak, peakModule } from './peak.ts';
import { runCase } from './run-suite.ts';

const timing = { samples: 3, sampleMs: 0, warmMs: 0, budgetMs: 100 };
const peak = { simd: 10, relaxed: 20 };
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
    const result = await runCase(sumCase(candidates), 'kernels-wasm (relaxed)', peak, timing, options);
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
    const result = await runCase(loose, 'kernels-wasm (simd)', peak, timing, options);
    expect(result.refused[0]).toMatchObject({ name: 'peer', reason: expect.stringContaining(`from ${OURS}`) as string });
  });

  it('derives rates and ratios from the medians', async () => {
    const result = await runCase(
      sumCase([candidate(OURS, [1, 2, 3]), candidate('peer', [1, 2, 3])]),
      'kernels-wasm (relaxed)',
      peak,
      timing,
      options,
    );
    const [ours, peer] = result.rows;
    expect(ours).toMatchObject({ ratio: 1, ofPeak: ours!.gflops! / 20, implementation: 'a list' });
    expect(peer!.ratio).toBeCloseTo(peer!.ms / ours!.ms, 10);
    expect(ours!.tokensPerSecond).toBeCloseTo(10_000 / ours!.ms, 5);
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
    const [row] = (await runCase(sumCase([late]), 'kernels-gpu (wgsl)', null, timing, options)).rows;
    expect(row).toMatchObject({ facts: { submits: 2 }, ofPeak: null, peakHeapBytes: null });
    expect(row!.ms).toBeGreaterThan(19);
    expect(row!.ms).toBeLessThan(200);
    expect(calls.slice(0, 3)).toEqual(['enter', OURS, 'finish']);
  });
});

describe('measuring', () => {
  it('takes turns, each round beginning with the next candidate', async () => {
    const order: string[] = [];
    const timed = ['a', 'b'].map((name) => ({ name, run: () => undefined, enter: async () => void order.push(name) }));
    const times = await interleave(timed, { ...timing, sampleMs: 1e-9 });
    // warm-up first, then ab, ba, ab
    expect(order.join('')).toBe('ababbaab');
    expect(times.get('a')!.wall.samples).toBe(3);
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
  });
});
