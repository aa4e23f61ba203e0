import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { ComparisonResult } from './comparison.ts';

const run = promisify(execFile);
const command = (...args: string[]): Promise<{ stdout: string }> =>
  run(process.execPath, ['--conditions=@seqloom/source', join(import.meta.dirname, '../run.ts'), ...args], { maxBuffer: 2 ** 24 });

describe.each([
  { name: 'selective-copying', models: ['mamba', 's5'], tasks: 1, label: 'Mamba' },
  { name: 'carry-a-fact', models: ['recurrent-memory', 'window'], tasks: 4, label: 'windowed transformer' },
  { name: 'frontier', models: ['window-8', 'taylor-8'], tasks: 3, label: 'sliding window, window 8' },
])('npm run experiment -- $name', ({ name, models, tasks, label }) => {
  it('gives the same figures for the same seeds, models of about one size, a table and a picture', async () => {
    const folder = await mkdtemp(join(tmpdir(), `seqloom-${name}-`));
    try {
      const results: ComparisonResult[] = [];
      for (let time = 0; time < 2; time++) {
        // the figures do not depend on the number of processes
        await command(name, '--quick', '--models', models.join(), '--jobs', String(1 + time), '--out', folder);
        results.push(JSON.parse(await readFile(join(folder, `${name}.json`), 'utf8')) as ComparisonResult);
      }
      const figures = results.map((result) => result.results.map(({ runs }) => runs.map(({ loss, curve }) => [loss, curve])));
      expect(figures[1]).toEqual(figures[0]);
      const [{ results: made }] = results as [ComparisonResult];
      expect(made.map((each) => each.name)).toEqual(models);
      const sizes = made.map(({ runs }) => runs[0]!.parameters);
      expect(Math.max(...sizes) / Math.min(...sizes)).toBeLessThan(1.05);
      for (const { runs } of made) expect(runs[0]!.curve.at(-1)!.accuracies).toHaveLength(tasks);
      expect(await readFile(join(folder, `${name}.md`), 'utf8')).toContain(`| ${label} |`);
      expect(await readFile(join(folder, `${name}.svg`), 'utf8')).toContain('share of right answers');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('says what is wrong with a command line', async () => {
    for (const words of [['--models', 'no-such-model'], ['--no-such-option']])
      await expect(command(name, ...words)).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining(models[0]!) as string });
  });
});
