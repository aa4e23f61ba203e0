import { describe, expect, it } from 'vitest';
import { checkSchedule, learningRateAt } from './schedule.ts';

const base = { peak: 1, minimum: 0.1, warmup: 10 } as const;

describe('schedules', () => {
  it.each(['constant', 'cosine', 'wsd'] as const)('%s warms up in a straight line to the peak', (shape) => {
    const schedule = { ...base, shape };
    expect(learningRateAt(schedule, 0, 100)).toBeCloseTo(0.1, 12);
    expect(learningRateAt(schedule, 4, 100)).toBeCloseTo(0.5, 12);
    expect(learningRateAt(schedule, 9, 100)).toBe(1);
    expect(learningRateAt(schedule, 10, 100)).toBe(1);
    // the total may not be known yet
    expect(learningRateAt(schedule, 50, Infinity)).toBe(1);
  });

  it('cosine is half way in the middle and at the minimum from the end on', () => {
    const schedule = { ...base, shape: 'cosine' } as const;
    expect(learningRateAt(schedule, 55, 100)).toBeCloseTo(0.55, 12);
    expect(learningRateAt(schedule, 100, 100)).toBe(0.1);
    expect(learningRateAt(schedule, 1000, 100)).toBe(0.1);
  });

  it.each([
    ['linear', 0.55],
    ['1-sqrt', 0.1 + 0.9 * (1 - Math.SQRT1_2)],
    ['exponential', Math.sqrt(0.1)],
  ] as const)('wsd stays, then decays: %s', (decay, middle) => {
    const schedule = { ...base, shape: 'wsd', decay, decaySteps: 20 } as const;
    expect(learningRateAt(schedule, 79, 100)).toBe(1);
    expect(learningRateAt(schedule, 80, 100)).toBe(1);
    expect(learningRateAt(schedule, 90, 100)).toBeCloseTo(middle, 12);
    expect(learningRateAt(schedule, 99, 100)).toBeLessThan(0.35);
    expect(learningRateAt(schedule, 100, 100)).toBe(0.1);
  });

  it('never leaves [0, peak], whatever the lengths', () => {
    for (const shape of ['constant', 'cosine', 'wsd'] as const) {
      for (const total of [1, 2, 5, 37]) {
        for (const warmup of [0, 1, 5, 50]) {
          for (let step = 0; step < total + 3; step++) {
            const rate = learningRateAt({ ...base, shape, warmup, decaySteps: 7 }, step, total);
            expect(rate, `${shape} ${step}/${total}, warm-up ${warmup}`).toBeGreaterThan(0);
            expect(rate).toBeLessThanOrEqual(1);
          }
        }
      }
    }
  });

  it('refuses what makes no sense', () => {
    expect(() => checkSchedule({ peak: 0 })).toThrow('schedule: peak must be a finite number above 0; got 0.');
    expect(() => checkSchedule({ peak: 1, minimum: 2 })).toThrow('minimum must be between 0 and the peak 1; got 2');
    expect(() => checkSchedule({ warmup: 1.5 })).toThrow('warmup');
    expect(() => checkSchedule({ shape: 'step' as 'wsd' })).toThrow('constant, cosine or wsd');
    expect(() => checkSchedule({ shape: 'wsd', decay: 'exponential', minimum: 0 })).toThrow('above 0 for exponential decay');
    expect(() => checkSchedule({})).not.toThrow();
  });
});
