import { expect, it } from 'vitest';
import { OURS } from './candidate.ts';
import { gainNote, seriesOf } from './gains.ts';
import type { CaseResult } from './suite.ts';

const resultOf = (x: number, ratios: Record<string, number>): CaseResult =>
  ({
    name: `at ${x}`,
    series: 'a',
    x,
    rows: Object.entries(ratios).map(([candidate, ratio]) => ({ candidate, ratio })),
  }) as unknown as CaseResult;

it('a note tells how much faster we are wherever both were measured', () => {
  const results = [resultOf(8, { [OURS]: 2, dense: 3 }), resultOf(16, { [OURS]: 2 }), resultOf(32, { [OURS]: 2, dense: 25 })];
  expect(seriesOf([...results, { ...results[0]!, series: null }])).toEqual(['a']);
  expect(gainNote(results, 'a', 'dense', 'dense attention')).toBe('a: time of dense attention over ours 1.5 at 8, 13 at 32');
  expect(gainNote(results, 'a', 'masked')).toBe('a: time of masked over ours not measured');
});
