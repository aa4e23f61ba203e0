// gives every package its nx targets and its floor as a tag, so that no package.json has to repeat them
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { floors } from './floors.ts';

/** @param {string} command @param {Record<string, unknown>} [options] */
const run = (command, options) => ({ executor: 'nx:run-commands', options: { command, cwd: '{workspaceRoot}', ...options } });

/** @param {string} file @param {unknown} _options @param {{ workspaceRoot: string }} context */
function projectOf(file, _options, context) {
  const root = dirname(file);
  const name = basename(root);
  const manifest = JSON.parse(readFileSync(join(context.workspaceRoot, file), 'utf8'));
  const tests = (/** @type {string} */ tier) => run(`vitest run --mode ${tier} --passWithNoTests ${root}/src`);
  const targets = {
    build: run(manifest.scripts?.['build:wasm'] ? `npm run -s build:wasm -w ${root} && tsc -b ${root}` : `tsc -b ${root}`),
    lint: run(`oxlint --type-aware --tsconfig tsconfig.check.json --deny-warnings ${root} && prettier --check --log-level warn ${root}`),
    test: tests('test'),
    'test:heavy': tests('heavy'),
    'test:webgpu': tests('webgpu'),
    ...(existsSync(join(context.workspaceRoot, 'bench', name))
      ? { bench: run(`node --conditions=@seqloom/source bench/run.ts ${name}`) }
      : {}),
    ...(manifest.private ? {} : { 'pack-check': run(`node tools/pack-check.ts ${name}`) }),
  };
  const floor = floors[name];
  return { projects: { [root]: { targets, tags: [floor ? `floor:${floor}` : 'dev-only', 'type:lib'] } } };
}

export const name = 'seqloom-packages';

/** @type {[string, (files: readonly string[], options: unknown, context: { workspaceRoot: string }) => Promise<unknown[]>]} */
export const createNodesV2 = [
  'packages/*/package.json',
  async (files, options, context) => files.map((file) => [file, projectOf(file, options, context)]),
];
