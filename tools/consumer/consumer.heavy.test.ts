import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { publicPackages, root } from '../workspace.ts';
import { type LocalRegistry, startRegistry } from './local-registry.ts';
import type { Outcome } from './outcome.ts';

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'seqloom-consumer-'));
const user = join(folder, 'user');
// the user's commands run on the user's Node: ours, from node_modules/.bin, leaves the path; SEQLOOM_CONSUMER_NODE puts a folder before it
const path = (process.env.PATH ?? '').split(delimiter).filter((entry) => !entry.includes('node_modules'));
const environment = {
  ...process.env,
  PATH: [process.env.SEQLOOM_CONSUMER_NODE, ...path].filter(Boolean).join(delimiter),
  FORCE_COLOR: '0',
};
for (const name of Object.keys(environment)) if (/^(npm_|VITEST|NODE_)/i.test(name)) delete (environment as NodeJS.ProcessEnv)[name];

let registry: LocalRegistry;

/** Runs a command as the user would, in the user's folder. */
async function asUser(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(command, args, { cwd: user, env: { ...environment, npm_config_userconfig: registry.userconfig } });
  return stdout;
}

beforeAll(async () => {
  await run('npm', ['run', '-s', 'build'], { cwd: root });
  const { stdout } = await run('npm', ['config', 'get', 'registry'], { cwd: root });
  registry = await startRegistry(folder, stdout.trim());
  const env = { ...process.env, npm_config_registry: registry.url, npm_config_userconfig: registry.userconfig };
  await run(join(root, 'node_modules/.bin/changeset'), ['publish', '--no-git-tag'], { cwd: root, env });
  mkdirSync(user);
  await asUser('npm', 'init', '-y');
  await asUser('npm', 'pkg', 'set', 'type=module');
  await asUser('npm', 'install', '@seqloom/core', '@seqloom/linear-attention');
  cpSync(join(root, 'tools/consumer/one-layer.mjs'), join(user, 'one-layer.mjs'));
});
afterAll(async () => {
  await registry?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe('a user who installs two packages from a registry', () => {
  test('all public packages are there', async () => {
    for (const { manifest } of publicPackages()) {
      const answer = (await (await fetch(`${registry.url}${manifest.name}`)).json()) as { 'dist-tags': { latest: string } };
      expect(answer['dist-tags'].latest, manifest.name).toBe(manifest.version);
    }
  });

  test('gets what these two need, and nothing of the rest', () => {
    const installed = readdirSync(join(user, 'node_modules/@seqloom')).sort();
    expect(installed).toEqual(['core', 'linear-attention']);
    // one copy of the tensor core
    expect(existsSync(join(user, 'node_modules/@tensorflow/tfjs-core'))).toBe(true);
    expect(existsSync(join(user, 'node_modules/@seqloom/core/node_modules'))).toBe(false);
    expect(existsSync(join(user, 'node_modules/@tensorflow/tfjs-backend-wasm/node_modules/@tensorflow'))).toBe(false);
  });

  test.for(['cpu', 'wasm'] as const)('trains one layer for ten steps in Node ESM on %s', async (backend) => {
    writeFileSync(
      join(user, 'train.mjs'),
      `import { trainOneLayer } from './one-layer.mjs';\nconsole.log(JSON.stringify(await trainOneLayer(process.argv[2])));\n`,
    );
    const lines = (await asUser('node', 'train.mjs', backend)).trim().split('\n');
    const outcome = JSON.parse(lines.at(-1)!) as Outcome;
    expect(outcome.backend).toBe(backend);
    expect(outcome.losses).toHaveLength(10);
    expect(outcome.losses.every(Number.isFinite)).toBe(true);
    expect(outcome.losses.at(-1)!).toBeLessThan(outcome.losses[0]!);
    expect(outcome.leaked).toBe(0);
  });

  test('type checks against the shipped declarations', async () => {
    writeFileSync(
      join(user, 'use.ts'),
      `import { setupBackend } from '@seqloom/core';
import { LinearAttention } from '@seqloom/linear-attention/linear-attention';
const layer = new LinearAttention({ dim: 8, heads: 2 });
const explanation = await setupBackend('cpu');
export const named: string = explanation.backend + layer.mechanism;
// @ts-expect-error a misspelt option is an error
new LinearAttention({ dim: 8, haeds: 2 });
`,
    );
    const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2022', '--types', ''];
    await expect(
      run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...flags, 'use.ts'], { cwd: user }),
    ).resolves.toBeTruthy();
  });

  test('bundles one mechanism with Vite, the others stay out', async () => {
    const outDir = join(user, 'bundle');
    writeFileSync(join(user, 'entry.mjs'), `export { trainOneLayer } from './one-layer.mjs';\n`);
    await build({
      root: user,
      configFile: false,
      logLevel: 'warn',
      build: { outDir, target: 'es2022', minify: false, lib: { entry: join(user, 'entry.mjs'), formats: ['es'], fileName: 'bundle' } },
    });
    const bundle = readdirSync(outDir)
      .filter((file) => file.endsWith('.js') || file.endsWith('.mjs'))
      .map((file) => readFileSync(join(outDir, file), 'utf8'))
      .join('\n');
    // booleans, since a failure would print the whole bundle
    expect(/\bLinearAttention = class/.test(bundle), 'the mechanism is in').toBe(true);
    expect(bundle.includes('BasedTaylor'), 'another mechanism is in').toBe(false);
    expect(/\breadSafetensors|SAFETENSORS/i.test(bundle), 'the safetensors reader is in').toBe(false);
  });
});
