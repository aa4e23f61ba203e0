import { describe, expect, it } from 'vitest';
import { bytesText, crossing, digits, quantile, spreadOf } from './statistics.ts';

describe('statistics', () => {
  it('takes medians, quartiles and extremes of samples in any order', () => {
    expect(spreadOf([5, 1, 4, 2, 3])).toEqual({ median: 3, min: 1, max: 5, q1: 2, q3: 4, samples: 5 });
    expect(spreadOf([4, 1, 3, 2]).median).toBe(2.5);
    expect(spreadOf([7])).toEqual({ median: 7, min: 7, max: 7, q1: 7, q3: 7, samples: 1 });
    expect(quantile([0, 10], 0.25)).toBe(2.5);
    expect(quantile([], 0.5)).toBeNaN();
  });

  it('finds where one curve falls below another for good', () => {
    // y = 8 against y = x cross at 8, between the points
    expect(crossing([2, 4, 16, 32], [8, 8, 8, 8], [2, 4, 16, 32])).toBeCloseTo(8, 10);
    expect(crossing([1, 2, 3], [1, 1, 1], [2, 2, 2])).toBe(1);
    expect(crossing([1, 2, 3], [2, 2, 2], [1, 1, 1])).toBeNull();
    // an early dip does not count
    expect(crossing([1, 2, 4], [1, 4, 1], [2, 2, 2])).toBeCloseTo(2 * Math.SQRT2, 10);
  });

  it('writes numbers with three digits and bytes with their unit', () => {
    expect([0, 0.01234, 12.345, 1234.5, 1234567, Number.NaN].map(digits)).toEqual(['0', '0.0123', '12.3', '1235', '1.23e+6', '-']);
    expect([0, 900, 2048, 3.5 * 2 ** 20].map(bytesText)).toEqual(['0 B', '900 B', '2 KiB', '3.5 MiB']);
  });
});
