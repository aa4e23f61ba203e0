import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setStrict } from '@seqloom/core';
import { createGpujs } from '@seqloom/kernels-gpu/gpujs';
import type { GpujsMode } from '@seqloom/kernels-gpu/gpujs';
import { describeMachine } from '../../measure/machine.ts';
import { contracts } from '../contracts.ts';
import { startWebGpu } from '../device.ts';
import { parityCases } from './cases.ts';
import { inGpujs, measureKernel, onTfjs } from './measure.ts';
import type { ParityRow, Writing } from './measure.ts';
import { mergeRuns, parityPage, redReason } from './table.ts';
import type { ParityRun } from './table.ts';

const COMMAND = 'npm run parity:gpu';

/** Measures every kernel in every writing and mode, and writes the table; returns the exit code. */
async function main(): Promise<number> {
  const { values } = parseArgs({ options: { only: { type: 'string' }, out: { type: 'string' } } });
  const { gpu } = await startWebGpu();
  setStrict(true);
  const { commit, date, node, cpu } = describeMachine();
  const sources = `${commit}, ${date.slice(0, 10)}`;
  const calls = parityCases();
  const runs: ParityRun[] = [];
  const measure = async (writing: string, mode: string, adapter: string, how: Writing): Promise<void> => {
    const rows: ParityRow[] = [];
    for (const { kernel } of contracts) {
      if (values.only !== undefined && !kernel.includes(values.only)) continue;
      const row = await measureKernel(how, kernel, calls);
      rows.push(row);
      process.stderr.write(`${writing}, ${mode}: ${kernel}: ${row.outputs} ${row.gradients} ${redReason(mode, row) ?? ''}\n`);
    }
    runs.push({ writing, mode, adapter, sources, rows });
  };
  await measure('wgsl', 'webgpu', gpu!.adapter, onTfjs);
  for (const mode of ['webgpu', 'webasm', 'cpu'] satisfies GpujsMode[]) {
    const gpujs = await createGpujs({ mode });
    await measure('gpu.js', mode, mode === 'webgpu' ? gpu!.adapter : `Node ${node} on ${cpu}`, inGpujs(gpujs));
    await gpujs.destroy();
  }
  const out = values.out ?? (values.only === undefined ? join(import.meta.dirname, '../../results') : null);
  const json = out && join(out, 'gpu-parity.json');
  const before = json && existsSync(json) ? (JSON.parse(readFileSync(json, 'utf8')) as ParityRun[]) : [];
  const all = mergeRuns(before, runs);
  const page = parityPage(all, COMMAND);
  if (out) {
    mkdirSync(out, { recursive: true });
    writeFileSync(json!, `${JSON.stringify(all, null, 2)}\n`);
    writeFileSync(join(out, 'gpu-parity.md'), page);
  }
  process.stdout.write(page);
  return runs.some(({ mode, rows }) => rows.some((row) => redReason(mode, row))) ? 1 : 0;
}

// Dawn's threads do not end by themselves
process.exit(await main());
