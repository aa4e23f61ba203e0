// runs the laws of every mechanism and prints how many tests of each law passed, per backend, and the worst error against the original
// code's vectors, per mechanism; `--webgpu` adds the sampled WebGPU run, `--record` keeps the errors for MECHANISMS.md
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countLaws, lawTable } from '@seqloom/testing';
import type { VitestJson } from '@seqloom/testing';
import { goldenErrorFile, goldenTable, worstErrors } from './golden-errors.ts';
import { root } from './workspace.ts';

const suites = globSync('packages/*/src/*/*.laws.test.ts', { cwd: root }).filter((file) => !file.startsWith('packages/testing/'));
const folder = mkdtempSync(join(tmpdir(), 'seqloom-laws-'));
const report = join(folder, 'golden.jsonl');
let status = 0;
const results = (process.argv.includes('--webgpu') ? ['test', 'webgpu'] : ['test']).flatMap((mode) => {
  const file = join(folder, `${mode}.json`);
  const run = spawnSync('vitest', ['run', '--mode', mode, '--reporter=json', `--outputFile=${file}`, ...suites], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      ...process.env,
      SEQLOOM_GOLDEN_REPORT: report,
      ...(mode === 'webgpu' ? { SEQLOOM_WEBGPU: process.env.SEQLOOM_WEBGPU ?? 'sample' } : {}),
    },
  });
  status ||= run.status ?? 1;
  return (JSON.parse(readFileSync(file, 'utf8')) as VitestJson).testResults;
});
const errors = worstErrors(existsSync(report) ? readFileSync(report, 'utf8') : '');
rmSync(folder, { recursive: true });
// a left-out backend appears as skipped tests of its own, which are no laws
console.log(lawTable(countLaws({ testResults: results })));
console.log(`\n${goldenTable(errors)}`);
if (process.argv.includes('--record')) writeFileSync(goldenErrorFile, `${JSON.stringify(errors, null, 2)}\n`);
process.exitCode = status;
