import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { root } from './workspace.ts';

const run = promisify(execFile);
const id = 'generator-trial';
// a copy of the workspace over the same installed packages: the trial must not be seen by whatever else reads the folders
const copy = mkdtempSync(join(tmpdir(), 'seqloom-generator-'));
const folder = join(copy, 'packages/linear-attention/src', id);
const bin = (name: string): string => join(root, 'node_modules/.bin', name);
const env: NodeJS.ProcessEnv = { ...process.env, NX_DAEMON: 'false', FORCE_COLOR: '0', CI: 'true' };
// the runs below are not part of the run that they are in
for (const name of Object.keys(env)) if (/^(VITEST|SEQLOOM_|NX_WORKSPACE|NODE_ENV|TEST$|MODE$)/.test(name)) delete env[name];

beforeAll(async () => {
  const skip = /(^|\/)(node_modules|dist|golden|\.git|\.nx|runs)(\/|$)/;
  cpSync(root, copy, { recursive: true, filter: (path) => !skip.test(relative(root, path)) });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  await run(bin('nx'), ['g', './tools/generators:mechanism', '--package', 'linear-attention', '--id', id], { cwd: copy, env });
});
afterAll(() => rmSync(copy, { recursive: true, force: true }));

describe('nx g ./tools/generators:mechanism', () => {
  test('writes the files of a mechanism', () => {
    expect(readdirSync(folder).sort()).toEqual(['README.md', 'card.ts', `${id}.test.ts`, 'index.ts', 'layer.ts', 'naive.ts']);
  });

  test('what it writes is formatted, and passes lint and types', async () => {
    await run(bin('prettier'), ['--check', folder], { cwd: copy, env });
    await run(bin('oxlint'), ['--type-aware', '--tsconfig', 'tsconfig.check.json', '--deny-warnings', folder], { cwd: copy, env });
    const check = await run(bin('tsc'), ['-p', 'tsconfig.check.json', '--incremental', 'false'], { cwd: copy, env }).catch(
      (error: { stdout: string }) => error,
    );
    expect(check.stdout.split('\n').filter((line) => line.includes(id))).toEqual([]);
  });

  test('its test fails until it is filled in', async () => {
    const report = await run(bin('vitest'), ['run', folder], { cwd: copy, env }).catch((error: { code: number; stdout: string }) => error);
    expect(report).toMatchObject({ code: 1 });
    expect(report.stdout).toMatch(/^\d+ passed, [1-9]\d* failed, \d+ skipped$/m);
    expect(report.stdout).toContain('law 1 (split)');
  });

  test('refuses to write over a mechanism, and a package that holds none', async () => {
    const generate = async (...args: string[]) => run(bin('nx'), ['g', './tools/generators:mechanism', ...args], { cwd: copy, env });
    await expect(generate('--package', 'linear-attention', '--id', id)).rejects.toThrow('holds a mechanism already');
    await expect(generate('--package', 'train', '--id', id)).rejects.toThrow('Mechanisms live in');
    expect(existsSync(join(copy, 'packages/train/src', id))).toBe(false);
  });
});
