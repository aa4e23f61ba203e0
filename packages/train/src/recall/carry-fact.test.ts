import { Random } from '@seqloom/core';
import { describe, expect, it } from 'vitest';
import { carryFact } from './carry-fact.ts';
import type { CarryFactOptions } from './carry-fact.ts';
import { IGNORED } from './task.ts';

const draw = (options: CarryFactOptions, count: number, seed = 1) => {
  const [task, random] = [carryFact(options), new Random(seed)];
  return Array.from({ length: count }, () => task.example(random));
};

describe('carrying a fact', () => {
  it.each([
    { vocabSize: 32, keys: 2, segmentLength: 8, segments: 8 },
    { vocabSize: 12, keys: 3, segmentLength: 9, segments: 1 },
    { vocabSize: 7, keys: 1, segmentLength: 4, segments: 2 },
  ])('gives every key a value in the first segment and asks for it at the end: %o', (options) => {
    const { vocabSize, keys, segmentLength, segments } = options;
    const firstKey = Math.floor(vocabSize / 2);
    for (const { ids, labels } of draw(options, 100)) {
      expect(ids).toHaveLength(segments * segmentLength);
      const valueOf = new Map<number, number>();
      for (let at = 0; at < segmentLength - keys; at++) {
        if (ids[at]! < firstKey) continue;
        expect(ids[at + 1]).toBeGreaterThanOrEqual(firstKey + keys);
        valueOf.set(ids[at]!, ids[++at]!);
      }
      expect([...valueOf.keys()].toSorted((a, b) => a - b)).toEqual(Array.from({ length: keys }, (_, key) => firstKey + key));
      const asked = ids.subarray(-keys);
      expect([...asked].toSorted((a, b) => a - b)).toEqual([...valueOf.keys()].toSorted((a, b) => a - b));
      expect([...labels.subarray(-keys)]).toEqual([...asked].map((key) => valueOf.get(key)));
      expect(labels.subarray(0, -keys).every((label) => label === IGNORED)).toBe(true);
      expect(ids.subarray(segmentLength - keys, -keys).every((id) => id < firstKey)).toBe(true);
    }
  });

  it('draws values and places evenly', () => {
    const values = Array.from({ length: 4 }, () => 0);
    const places = Array.from({ length: 4 }, () => 0);
    for (const { ids, labels } of draw({ vocabSize: 10, keys: 1, segmentLength: 6, segments: 2 }, 8000)) {
      values[labels.at(-1)! - 6]!++;
      places[ids.indexOf(5)]!++;
    }
    // five standard deviations
    for (const count of [...values, ...places]) expect(Math.abs(count - 2000)).toBeLessThan(195);
  });

  it('refuses sizes that do not fit', () => {
    expect(() => carryFact({ keys: 3, segmentLength: 8, segments: 2 })).toThrow('a whole number from 9');
    expect(() => carryFact({ vocabSize: 7, segmentLength: 8, segments: 2 })).toThrow('vocabSize');
    expect(() => carryFact({ segmentLength: 8, segments: 0 })).toThrow('segments');
    expect(() => carryFact({ keys: 0, segmentLength: 8, segments: 1 })).toThrow('keys');
  });
});
