import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { SuiteResult } from '../measure/suite.ts';

const run = promisify(execFile);

it('the suite gpu: three candidates on one device, counts beside times, the adapter in the machine line', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'seqloom-bench-'));
  try {
    const words = ['gpu', '--quick', '--only', 'Rotary', '--out', folder];
    await run(process.execPath, ['--conditions=@seqloom/source', join(import.meta.dirname, '../run.ts'), ...words], { maxBuffer: 2 ** 24 });
    const result = JSON.parse(await readFile(join(folder, 'gpu.json'), 'utf8')) as SuiteResult;
    const [{ rows, refused }] = result.cases as [SuiteResult['cases'][number]];
    expect(refused).toEqual([]);
    expect(rows.map(({ candidate }) => candidate)).toEqual(['seqloom', 'composed', 'gpu.js webgpu']);
    expect(rows[0]!.implementation).toMatch(/^kernels-gpu \(wgsl/);
    expect(rows[1]!.implementation).toBe('composed Rotary');
    for (const { facts } of rows) expect(facts).toMatchObject({ submits: 1, 'read-backs': 0 });
    expect(rows[0]!.facts).toMatchObject({ dispatches: 1, copies: 0 });
    expect(result.gpu!.adapter.length).toBeGreaterThan(3);
    const page = await readFile(join(folder, 'gpu.md'), 'utf8');
    expect(page).toContain(`GPU ${result.gpu!.adapter}`);
    expect(page.includes('emulated on the processor')).toBe(result.gpu!.software);
  } finally {
    await rm(folder, { recursive: true });
  }
});
