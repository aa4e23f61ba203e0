import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { RecallResult } from './report.ts';

const run = promisify(execFile);
const command = (...args: string[]): Promise<{ stdout: string }> =>
  run(process.execPath, ['--conditions=@seqloom/source', join(import.meta.dirname, '../run.ts'), ...args], { maxBuffer: 2 ** 24 });

describe('npm run experiment -- recall', () => {
  it('gives the same figures for the same seeds, states of one size, a table and a picture', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'seqloom-recall-'));
    try {
      const results: RecallResult[] = [];
      for (let time = 0; time < 2; time++) {
        await command('recall', '--quick', '--mixers', 'linear-attention,delta-net', '--out', folder);
        results.push(JSON.parse(await readFile(join(folder, 'recall.json'), 'utf8')) as RecallResult);
      }
      const figures = results.map((result) => result.results.map(({ runs }) => runs.map(({ loss, accuracies }) => [loss, accuracies])));
      expect(figures[1]).toEqual(figures[0]);
      const [{ results: mixers, sizes }] = results as [RecallResult];
      expect(mixers.map(({ name }) => name)).toEqual(['linear-attention', 'delta-net']);
      for (const { runs } of mixers) {
        expect(runs[0]!.stateFloats).toBe(128);
        expect(runs[0]!.accuracies).toHaveLength(sizes.tasks.length);
      }
      expect(await readFile(join(folder, 'recall.md'), 'utf8')).toContain('| DeltaNet | 128 |');
      expect(await readFile(join(folder, 'recall.svg'), 'utf8')).toContain('every pair written again');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('says what is wrong with a command line', async () => {
    await expect(command('recall', '--mixers', 'no-such-mixer')).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringContaining('kimi-delta-attention') as string,
    });
    await expect(command('no-such-experiment')).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining('recall') as string });
  });
});
