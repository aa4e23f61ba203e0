import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundle, launch } from '../bundle.ts';
import type { Bundle } from '../bundle.ts';

interface Outcome {
  readonly results: Record<string, number[]>;
  readonly report: { kernel: string; backend: string; executor: string; reason: string | null }[];
  /** kernels that the page does not run */
  readonly missing: string[];
}

let built: Bundle;
let server: Awaited<ReturnType<Bundle['serve']>>;
let browser: Browser;
let page: Page;
let wanted: Outcome;

beforeAll(async () => {
  built = await bundle('gpujs');
  server = await built.serve();
  browser = await launch();
  page = await browser.newPage();
  await page.goto(server.address);
  await page.waitForFunction(() => document.title === 'ready');
  wanted = await run('cpu');
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  built?.remove();
});

async function run(mode: string): Promise<Outcome> {
  return page.evaluate(async (name) => (globalThis as unknown as { runGpujs: (mode: string) => Promise<Outcome> }).runGpujs(name), mode);
}

describe('the gpu.js kernels in a minified bundle in Chromium', () => {
  test('the page runs them all', () => {
    expect(wanted.missing).toEqual([]);
  });

  test.for([
    ['webasm', 'webasm', 'fused-sync', 2e-6],
    // exponentials of WebGPU adapters have fewer digits
    ['webgpu', 'webgpu', 'fused-encoder', 2e-5],
    ['webgl2', 'gpu', 'generic', 2e-6],
  ] as const)('%s gives the numbers of the mode cpu', async ([mode, backend, executor, bound]) => {
    const { results, report } = await run(mode);
    expect(new Set(report.map((plan) => `${plan.backend} ${plan.executor}`))).toEqual(new Set([`${backend} ${executor}`]));
    expect(Object.keys(results)).toEqual(Object.keys(wanted.results));
    for (const [kernel, numbers] of Object.entries(wanted.results)) {
      const found = results[kernel]!;
      expect(found).toHaveLength(numbers.length);
      const scale = Math.max(...numbers.map(Math.abs));
      expect(scale).toBeGreaterThan(0);
      const worst = Math.max(...found.map((number, index) => Math.abs(number - numbers[index]!))) / scale;
      expect(worst, kernel).toBeLessThan(bound);
    }
  });

  // last: gpu.js acquired a device of its own above, and a page has but one
  test('a tensor goes to gpu.js and back on one device, with no read-back', async () => {
    await page.reload();
    await page.waitForFunction(() => document.title === 'ready');
    const found = await page.evaluate(async () => (globalThis as unknown as { shareDevice: () => Promise<object> }).shareDevice());
    expect(found).toEqual({ sameDevice: true, counts: { mapAsync: 0, copyBufferToBuffer: 1 }, least: 801, greatest: 801 });
  });
});
