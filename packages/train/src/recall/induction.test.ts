import { Random } from '@seqloom/core';
import { describe, expect, it } from 'vitest';
import { induction } from './induction.ts';
import type { InductionOptions } from './induction.ts';
import { IGNORED } from './task.ts';

const draw = (options: InductionOptions, count: number) => {
  const [task, random] = [induction(options), new Random(1)];
  return Array.from({ length: count }, () => task.example(random));
};

describe('induction', () => {
  it.each<InductionOptions>([
    { length: 256 },
    { length: 5, vocabSize: 3 },
    { length: 64, vocabSize: 3, trigger: 1 },
    { length: 40, vocabSize: 4, trigger: 3 },
  ])('ends with tokens that stood once before, and asks for what followed: %o', (options) => {
    const trigger = options.trigger ?? 2;
    for (const { ids, labels } of draw(options, 200)) {
      const asked = [...ids.subarray(-trigger)];
      const places = [...ids.keys()].filter((at) => asked.every((token, i) => ids[at + i] === token));
      expect(places).toEqual([places[0], options.length - trigger]);
      expect(new Set(asked).size).toBe(trigger);
      expect(labels.at(-1)).toBe(ids[places[0]! + trigger]);
      expect(labels.subarray(0, -1).every((label) => label === IGNORED)).toBe(true);
    }
  });

  it('draws answers and places evenly', () => {
    const answers = Array.from({ length: 5 }, () => 0);
    const places = Array.from({ length: 6 }, () => 0);
    for (const { ids, labels } of draw({ vocabSize: 5, length: 10 }, 9000)) {
      answers[labels.at(-1)!]!++;
      places[[...ids.keys()].find((at) => ids[at] === ids[8] && ids[at + 1] === ids[9])!]!++;
    }
    // five standard deviations
    for (const count of answers) expect(Math.abs(count - 1800)).toBeLessThan(190);
    for (const count of places) expect(Math.abs(count - 1500)).toBeLessThan(177);
  });

  it('refuses sizes that do not fit', () => {
    expect(() => induction({ length: 4 })).toThrow('a whole number from 5');
    expect(() => induction({ length: 64, trigger: 0 })).toThrow('trigger');
    expect(() => induction({ length: 64, vocabSize: 2 })).toThrow('vocabSize');
    expect(() => induction({ length: 64, vocabSize: 4, trigger: 5 })).toThrow('a whole number from 5');
  });
});
