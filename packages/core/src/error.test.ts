import { expect, test } from 'vitest';
import { SeqLoomError, fail } from './error.ts';

test('an error carries its parts and its message states all five', () => {
  const cause = new TypeError('inner');
  let caught: unknown;
  try {
    fail({ mechanism: 'linearScan', argument: 'decay', wanted: 'of rank 3', given: 'rank 2', remedy: 'Add a batch axis.', cause });
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(SeqLoomError);
  expect(caught).toBeInstanceOf(Error);
  expect(caught).toMatchObject({
    name: 'SeqLoomError',
    mechanism: 'linearScan',
    argument: 'decay',
    wanted: 'of rank 3',
    given: 'rank 2',
    remedy: 'Add a batch axis.',
    cause,
    message: 'linearScan: decay must be of rank 3; got rank 2. Add a batch axis.',
  });
});

test('without a cause the error has none', () => {
  const error = new SeqLoomError({ mechanism: 'm', argument: 'a', wanted: 'w', given: 'g', remedy: 'R.' });
  expect('cause' in error).toBe(false);
  expect(String(error)).toBe('SeqLoomError: m: a must be w; got g. R.');
});
