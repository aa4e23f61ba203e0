import { Random } from '@seqloom/core';
import { describe, expect, it } from 'vitest';
import { selectiveCopying } from './selective-copying.ts';
import type { SelectiveCopyingOptions } from './selective-copying.ts';
import { IGNORED } from './task.ts';

const draw = (options: SelectiveCopyingOptions, count: number, seed = 1) => {
  const [task, random] = [selectiveCopying(options), new Random(seed)];
  return Array.from({ length: count }, () => task.example(random));
};

describe('selective copying', () => {
  it('asks at the markers for what is left without the noise', () => {
    for (const options of [
      { vocabSize: 16, noise: 40, tokens: 6 },
      { vocabSize: 3, noise: 0, tokens: 5 },
      { vocabSize: 5, noise: 9, tokens: 1, selective: false },
    ]) {
      const { vocabSize, noise, tokens } = options;
      const { length } = selectiveCopying(options);
      expect(length).toBe(noise + 2 * tokens);
      for (const { ids, labels } of draw(options, 100)) {
        const context = ids.subarray(0, noise + tokens);
        expect(context.every((id) => id < vocabSize - 1)).toBe(true);
        expect(labels.subarray(0, noise + tokens).every((label) => label === IGNORED)).toBe(true);
        expect([...labels.subarray(noise + tokens)]).toEqual([...context].filter((id) => id > 0));
        expect(ids.subarray(noise + tokens).every((id) => id === vocabSize - 1)).toBe(true);
      }
    }
  });

  it('draws every set of places and every token evenly', () => {
    const sets = new Map<string, number>();
    const ids = [0, 0, 0];
    for (const example of draw({ vocabSize: 5, noise: 3, tokens: 2 }, 10_000)) {
      const places = [...example.ids.keys()].filter((at) => at < 5 && example.ids[at]! > 0);
      sets.set(places.join(), (sets.get(places.join()) ?? 0) + 1);
      for (const at of places) ids[example.ids[at]! - 1]!++;
    }
    // ten sets and 20 000 tokens over three ids; five standard deviations
    expect(sets.size).toBe(10);
    for (const count of sets.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
    for (const count of ids) expect(Math.abs(count - 20_000 / 3)).toBeLessThan(340);
  });

  it('puts the tokens in front for plain copying, and gives the same for the same seed', () => {
    const options = { noise: 4, tokens: 3, selective: false };
    for (const { ids } of draw(options, 20)) expect([...ids.keys()].filter((at) => at < 7 && ids[at]! > 0)).toEqual([0, 1, 2]);
    expect(draw({ noise: 9, tokens: 4 }, 5)).toEqual(draw({ noise: 9, tokens: 4 }, 5));
    expect(draw({ noise: 9, tokens: 4 }, 5, 2)).not.toEqual(draw({ noise: 9, tokens: 4 }, 5));
  });

  it('refuses sizes that make no sense', () => {
    expect(() => selectiveCopying({ vocabSize: 2, noise: 4, tokens: 1 })).toThrow('vocabSize');
    expect(() => selectiveCopying({ noise: -1, tokens: 1 })).toThrow('noise');
    expect(() => selectiveCopying({ noise: 4, tokens: 0.5 })).toThrow('tokens');
  });
});
