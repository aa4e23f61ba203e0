import { describe, expect, it } from 'vitest';
import { fold } from './run.ts';

describe('folding workgroups', () => {
  it('covers every count within the limit of each dimension, with little to skip', () => {
    for (const count of [1, 65535, 65536, 65537, 1_000_003, 65535 * 65535, 65535 * 65535 + 1]) {
      const folded = fold(count, 65535);
      const total = folded.reduce((product, extent) => product * extent, 1);
      expect(total).toBeGreaterThanOrEqual(count);
      expect(total).toBeLessThan(count * 1.5 + 65535 * 2);
      for (const extent of folded) expect(extent).toBeLessThanOrEqual(65535);
    }
  });
});
