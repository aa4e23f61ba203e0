import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Random } from '@seqloom/core';
import { describe, expect, it } from 'vitest';
import type { FarRecallResult } from './report.ts';
import { farRecall } from './task.ts';

const run = promisify(execFile);
const command = (...args: string[]): Promise<{ stdout: string }> =>
  run(process.execPath, ['--conditions=@seqloom/source', join(import.meta.dirname, '../run.ts'), ...args], { maxBuffer: 2 ** 24 });

describe('npm run experiment -- far-recall', () => {
  it('asks each key at its distance', () => {
    const random = new Random(1);
    for (const distance of [6, 56]) {
      const task = farRecall({ length: 64, pairs: 3, ids: 16 }, distance);
      for (let n = 0; n < 50; n++) {
        const { ids, labels } = task.example(random);
        const asked = [...labels.keys()].filter((at) => labels[at]! >= 0);
        expect(asked).toHaveLength(3);
        for (const at of asked) {
          expect(ids[at - distance]).toBe(labels[at]);
          expect(ids[at - distance - 1]).toBe(ids[at]);
        }
      }
    }
  });

  it('writes a table and a picture', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'seqloom-far-recall-'));
    try {
      await command('far-recall', '--quick', '--out', folder);
      const { results, sizes } = JSON.parse(await readFile(join(folder, 'far-recall.json'), 'utf8')) as FarRecallResult;
      expect(results).toHaveLength(3);
      for (const { runs } of results) expect(runs[0]!.accuracies).toHaveLength(sizes.distances.length);
      expect(await readFile(join(folder, 'far-recall.md'), 'utf8')).toContain('| full attention |');
      expect(await readFile(join(folder, 'far-recall.svg'), 'utf8')).toContain('Recall over distance');
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
