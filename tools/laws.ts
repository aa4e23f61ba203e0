// runs the laws of every mechanism and prints how many tests of each law passed, per backend; `--webgpu` adds the sampled WebGPU run
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countLaws, lawTable } from '@seqloom/testing';
import type { VitestJson } from '@seqloom/testing';
import { root } from './workspace.ts';

const suites = globSync('packages/*/src/*/*.laws.test.ts', { cwd: root }).filter((file) => !file.startsWith('packages/testing/'));
const folder = mkdtempSync(join(tmpdir(), 'seqloom-laws-'));
let status = 0;
const results = (process.argv.includes('--webgpu') ? ['test', 'webgpu'] : ['test']).flatMap((mode) => {
  const file = join(folder, `${mode}.json`);
  const run = spawnSync('vitest', ['run', '--mode', mode, '--reporter=json', `--outputFile=${file}`, ...suites], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...(mode === 'webgpu' ? { SEQLOOM_WEBGPU: process.env.SEQLOOM_WEBGPU ?? 'sample' } : {}) },
  });
  status ||= run.status ?? 1;
  return (JSON.parse(readFileSync(file, 'utf8')) as VitestJson).testResults;
});
rmSync(folder, { recursive: true });
// a left-out backend appears as skipped tests of its own, which are no laws
console.log(lawTable(countLaws({ testResults: results })));
process.exitCode = status;
