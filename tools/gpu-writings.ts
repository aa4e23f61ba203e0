import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { gpujsTimes } from '../bench/gpu/writings.ts';
import type { SuiteResult } from '../bench/measure/suite.ts';

const results = join(import.meta.dirname, '../bench/results/gpu.json');
/** The file that this writes. */
export const TARGET = join(import.meta.dirname, '../packages/kernels-gpu/src/measured-writings.ts');

/** The module that `gpuWritings()` reads, from the results of the suite `gpu`. */
export async function measuredWritings(): Promise<string> {
  const result = JSON.parse(readFileSync(results, 'utf8')) as SuiteResult;
  const { adapter, software } = result.gpu!;
  const text = `// written by \`npm run docs:writings\` from the results of \`npm run bench -- gpu\`
// measured ratios may look like constants
/* oxlint-disable oxc/approx-constant */

/** The adapter of those results. */
export const measuredOn = ${JSON.stringify({ adapter, emulated: software })} as const;

/** Time of the gpu.js writing over that of WGSL by kernel; null where gpu.js was not timed. */
export const gpujsTimes: Readonly<Record<string, number | null>> = ${JSON.stringify(gpujsTimes(result.cases))};
`;
  return format(text, { ...(await resolveConfig(TARGET)), filepath: TARGET });
}

if (import.meta.main) writeFileSync(TARGET, await measuredWritings());
