import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { measuredWritings, TARGET } from './gpu-writings.ts';

it('what the kernels say about their writings is what the benchmark measured; else run `npm run docs:writings`', async () => {
  expect(readFileSync(TARGET, 'utf8')).toBe(await measuredWritings());
});
