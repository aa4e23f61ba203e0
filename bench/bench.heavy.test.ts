import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { SuiteResult } from './measure/suite.ts';

const run = promisify(execFile);

async function bench(...args: string[]): Promise<{ result: SuiteResult; page: string; picture: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'seqloom-bench-'));
  try {
    const command = ['--conditions=@seqloom/source', join(import.meta.dirname, 'run.ts'), ...args, '--quick', '--out', folder];
    await run(process.execPath, command, { maxBuffer: 2 ** 24 });
    const read = (suffix: string): Promise<string> => readFile(join(folder, `${args[0]}.${suffix}`), 'utf8');
    return { result: JSON.parse(await read('json')) as SuiteResult, page: await read('md'), picture: await read('svg') };
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe('npm run bench', () => {
  it('runs a suite: parity, times, table and curves', async () => {
    const { result, page, picture } = await bench('linear-attention', '--peers', 'none');
    for (const { name, rows, refused } of result.cases) {
      expect(
        rows.map(({ candidate }) => candidate),
        name,
      ).toEqual(['seqloom', 'composed']);
      expect(refused, name).toEqual([]);
      expect(rows[0]!.implementation, name).toMatch(/^kernels-wasm \((simd|relaxed)\)$/);
      expect(rows[1]!.implementation, name).toMatch(/^composed LinearAttention/);
      expect(rows[1]!.ratio, name).toBeCloseTo(rows[1]!.ms / rows[0]!.ms, 8);
    }
    expect(result.cases.length).toBeGreaterThan(6);
    expect(page).toContain('| case | candidate |');
    expect(picture).toContain('gated_delta, decay per channel, forward');
  });

  it('says what is wrong with a command line', async () => {
    const wrong = run(process.execPath, ['--conditions=@seqloom/source', join(import.meta.dirname, 'run.ts'), 'no-such-suite']);
    await expect(wrong).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining('linear-attention') as string });
  });
});
