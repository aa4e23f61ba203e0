import { Random } from '@seqloom/core';
import { describe, expect, it } from 'vitest';
import { needle, needleIds } from './needle.ts';
import type { NeedleOptions } from './needle.ts';
import { IGNORED } from './task.ts';

const draw = (options: NeedleOptions, count: number) => {
  const [task, random] = [needle(options), new Random(1)];
  return Array.from({ length: count }, () => task.example(random));
};

describe('needle', () => {
  it.each([0, 0.25, 0.5, 1])('puts the fact at depth %d and asks for it at the end', (depth) => {
    const { firstKey, firstValue } = needleIds(64);
    for (const { ids, labels } of draw({ length: 105, depth }, 50)) {
      const at = 100 * depth;
      expect(ids[at]).toBe(0);
      expect(ids.filter((id) => id === 0)).toHaveLength(1);
      expect(ids[at + 1]! >= firstKey && ids[at + 1]! < firstValue).toBe(true);
      expect(ids[at + 2]).toBeGreaterThanOrEqual(firstValue);
      expect([...ids.subarray(-2)]).toEqual([1, ids[at + 1]]);
      expect(labels.at(-1)).toBe(ids[at + 2]);
      expect(labels.subarray(0, -1).every((label) => label === IGNORED)).toBe(true);
      const rest = [...ids.subarray(0, at), ...ids.subarray(at + 3, -2)];
      expect(rest.every((id) => id >= 2 && id < firstKey)).toBe(true);
    }
  });

  it('draws the depth evenly when it is not given', () => {
    const counts = Array.from({ length: 4 }, () => 0);
    for (const { ids } of draw({ length: 8 }, 8000)) counts[ids.indexOf(0)]!++;
    // five standard deviations
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(195);
  });

  it('hides other facts with keys of their own that do not touch the asked one', () => {
    for (const { ids, labels } of draw({ length: 25, facts: 5, depth: 0.3 }, 300)) {
      const places = [...ids.keys()].filter((at) => ids[at] === 0);
      expect(places).toHaveLength(5);
      expect(places).toContain(6);
      for (let i = 1; i < 5; i++) expect(places[i]! - places[i - 1]!).toBeGreaterThanOrEqual(3);
      expect(new Set(places.map((at) => ids[at + 1])).size).toBe(5);
      expect(ids[7]).toBe(ids.at(-1));
      expect(labels.at(-1)).toBe(ids[8]);
    }
  });

  it('refuses sizes that do not fit', () => {
    expect(() => needle({ length: 4 })).toThrow('length');
    expect(() => needle({ length: 24, facts: 5 })).toThrow('a whole number from 25');
    expect(() => needle({ length: 64, vocabSize: 9 })).toThrow('vocabSize');
    expect(() => needle({ length: 64, facts: 16, vocabSize: 64 })).toThrow('vocabSize');
    expect(() => needle({ length: 64, depth: 1.5 })).toThrow('from 0 to 1');
    expect(() => needle({ length: 64, facts: 0 })).toThrow('facts');
  });
});
