import { cpSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, type Page, chromium } from 'playwright-core';
import { type PreviewServer, build, preview } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chromiumPath } from '../chromium.ts';
import type { Outcome } from '../consumer/outcome.ts';
import { root } from '../workspace.ts';

const folder = mkdtempSync(join(tmpdir(), 'seqloom-browser-'));
let server: PreviewServer;
let browser: Browser;
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  await build({
    root: join(root, 'tools/browser'),
    configFile: false,
    logLevel: 'warn',
    resolve: { conditions: ['@seqloom/source', 'module', 'browser', 'import', 'default'] },
    build: { outDir: folder, emptyOutDir: true, target: 'es2023' },
  });
  for (const file of globSync('node_modules/@tensorflow/tfjs-backend-wasm/dist/*.wasm', { cwd: root })) {
    cpSync(join(root, file), join(folder, 'wasm', file.split('/').at(-1)!));
  }
  server = await preview({
    root: join(root, 'tools/browser'),
    configFile: false,
    logLevel: 'warn',
    build: { outDir: folder },
    preview: { host: '127.0.0.1', port: 0 },
  });
  browser = await chromium.launch({
    executablePath: chromiumPath(),
    // the last two let a machine without a GPU answer WebGPU in software
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'],
  });
  page = await browser.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  const address = server.resolvedUrls?.local[0];
  if (!address) throw new Error('vite preview gave no address');
  await page.goto(address);
  await page.waitForFunction(() => document.title === 'ready');
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function train(backend: 'cpu' | 'wasm' | 'webgpu'): Promise<Outcome> {
  return page.evaluate(async (name) => {
    const run = (globalThis as unknown as { trainOneLayer: (backend: string, options: object) => Promise<Outcome> }).trainOneLayer;
    return run(name, { wasmPaths: './wasm/', kernels: [] });
  }, backend);
}

describe('a bundled layer in Chromium', () => {
  test.for(['cpu', 'wasm', 'webgpu'] as const)('trains ten steps on %s', async (backend) => {
    const outcome = await train(backend);
    expect(outcome.backend).toBe(backend);
    expect(outcome.losses).toHaveLength(10);
    expect(outcome.losses.every(Number.isFinite)).toBe(true);
    expect(outcome.losses.at(-1)!).toBeLessThan(outcome.losses[0]!);
    expect(outcome.leaked).toBe(0);
  });

  test('the page threw nothing, and the bundle holds one tensor core', () => {
    expect(complaints).toEqual([]);
    const scripts = globSync('assets/*.js', { cwd: folder }).map((file) => readFileSync(join(folder, file), 'utf8'));
    // the engine announces a backend that is registered twice; one copy of the core has this text once
    const copies = scripts.join('\n').split('backend was already registered').length - 1;
    expect(copies).toBe(1);
  });
});
