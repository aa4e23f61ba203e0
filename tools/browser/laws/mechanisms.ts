import { globSync } from 'node:fs';
import { root } from '../../workspace.ts';

/**
 * Law files whose laws also run in Chromium's WebGPU: of each family a mechanism on the kernel that most of the family shares.
 * SEQLOOM_BROWSER_LAWS=all takes every mechanism, which an emulated GPU needs a quarter of an hour for, and a part of a path those that have it.
 */
const SAMPLE = [
  'linear-attention/src/gated-delta-net/gated-delta-net',
  'attention/src/sliding-window-attention/sliding-window-attention',
  'ssm/src/mamba-s6/mamba-s6',
  'sparse-attention/src/moba/moba',
  'memory/src/memory-layers-at-scale/memory-layers-at-scale',
];

/** Addresses of the law files to run, from the root of the repository. */
export function lawFiles(asked = process.env.SEQLOOM_BROWSER_LAWS): string[] {
  if (!asked) return SAMPLE.map((file) => `/packages/${file}.laws.test.ts`);
  const present = globSync('packages/*/src/*/*.laws.test.ts', { cwd: root }).filter((file) => !file.startsWith('packages/testing/'));
  const found = present.filter((file) => asked === 'all' || file.includes(asked)).map((file) => `/${file}`);
  if (found.length === 0) throw new Error(`SEQLOOM_BROWSER_LAWS: no law file has ${asked} in its path.`);
  return found.toSorted();
}
