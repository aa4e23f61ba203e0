import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Row, SuiteResult } from './measure/suite.ts';

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
    const names = (rows: readonly Row[]): string[] => rows.map(({ candidate }) => candidate);
    for (const { name, rows, refused, samples } of result.cases) {
      const wanted = name.includes('in calls of')
        ? ['2 calls of T = 35', 'seqloom']
        : ['seqloom', 'composed', ...(name.includes('backward') ? ['forward alone'] : [])];
      expect(names(rows), name).toEqual(wanted);
      expect(refused, name).toEqual([]);
      expect(samples, name).toBeGreaterThanOrEqual(result.timing.samples * rows.length);
      for (const { candidate, implementation, ratio } of rows) {
        expect(implementation, name).toMatch(candidate === 'composed' ? /^composed LinearAttention/ : /^kernels-wasm \((simd|relaxed)\)$/);
        expect(ratio, name).toBeGreaterThan(0);
        if (candidate === 'seqloom') expect(ratio, name).toBe(1);
      }
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
