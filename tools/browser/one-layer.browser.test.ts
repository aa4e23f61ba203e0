import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Outcome } from '../consumer/outcome.ts';
import { bundle, launch } from './bundle.ts';
import type { Bundle } from './bundle.ts';

let built: Bundle;
let server: Awaited<ReturnType<Bundle['serve']>>;
let browser: Browser;
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  built = await bundle('.');
  server = await built.serve();
  browser = await launch();
  page = await browser.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(server.address);
  await page.waitForFunction(() => document.title === 'ready');
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  built?.remove();
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
    const scripts = globSync('assets/*.js', { cwd: built.folder }).map((file) => readFileSync(join(built.folder, file), 'utf8'));
    // the engine announces a backend that is registered twice; one copy of the core has this text once
    const copies = scripts.join('\n').split('backend was already registered').length - 1;
    expect(copies).toBe(1);
  });
});
