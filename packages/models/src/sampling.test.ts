import { describe, expect, it } from 'vitest';
import { checkSampling, sampleToken } from './sampling.ts';

const logits = Float32Array.of(1, 3, 2, 3, -5);
const draw = (options: Parameters<typeof sampleToken>[2], step = 0, seen: number[] = []): number =>
  sampleToken(logits, seen, options, 0, step);

describe('sampling', () => {
  it('takes the most likely token at temperature 0 or top-k 1, the lower id on a tie', () => {
    expect(draw({ temperature: 0 })).toBe(1);
    expect(draw({ topK: 1, seed: 9 })).toBe(1);
  });

  it('follows the softmax distribution', () => {
    const counts = new Float64Array(logits.length);
    const draws = 20_000;
    for (let step = 0; step < draws; step++) counts[draw({ temperature: 1.5, seed: 3 }, step)]!++;
    const weights = Array.from(logits, (logit) => Math.exp(logit / 1.5));
    const total = weights.reduce((a, b) => a + b, 0);
    const chiSquare = weights.reduce(
      (sum, weight, id) => sum + (counts[id]! - (draws * weight) / total) ** 2 / ((draws * weight) / total),
      0,
    );
    // 4 degrees of freedom: 18.5 is passed by chance once in a thousand
    expect(chiSquare).toBeLessThan(18.5);
  });

  it('keeps within top-k, top-p and min-p, and the token that crosses top-p', () => {
    const seen = (options: Parameters<typeof sampleToken>[2]): number[] => {
      const ids = new Set<number>();
      for (let step = 0; step < 400; step++) ids.add(draw(options, step));
      return [...ids].toSorted((a, b) => a - b);
    };
    expect(seen({ topK: 2 })).toEqual([1, 3]);
    // the first has 0.40, the first two 0.80: 0.5 is crossed by the second
    expect(seen({ topP: 0.5 })).toEqual([1, 3]);
    expect(seen({ topP: 0.3 })).toEqual([1]);
    expect(seen({ minP: 0.3 })).toEqual([1, 2, 3]);
    expect(seen({ topP: 1, topK: 5, temperature: 50 })).toEqual([0, 1, 2, 3, 4]);
  });

  it('penalises each distinct token once, towards less likely for either sign', () => {
    expect(draw({ temperature: 0, repetitionPenalty: 2 }, 0, [1, 1, 1])).toBe(3);
    expect(sampleToken(Float32Array.of(-1, -1.5), [0], { temperature: 0, repetitionPenalty: 2 }, 0, 0)).toBe(1);
  });

  it('gives a row the same draw whatever its neighbours', () => {
    expect(sampleToken(logits, [], { seed: 5 }, 2, 7)).toBe(sampleToken(Float32Array.from(logits), [1], { seed: 5 }, 2, 7));
  });

  it.each([{ temperature: -1 }, { topK: 0 }, { topP: 0 }, { topP: 1.5 }, { minP: 2 }, { repetitionPenalty: 0 }, { seed: 0.5 }])(
    'refuses %j',
    (options) => {
      expect(() => checkSampling(options)).toThrow(/^generate: /);
    },
  );
});
