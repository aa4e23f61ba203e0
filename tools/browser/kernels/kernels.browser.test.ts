import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundle, launch } from '../bundle.ts';
import type { Bundle } from '../bundle.ts';
import type { Findings } from './run-kernels.mjs';
import { runKernels } from './run-kernels.mjs';

let minified: Bundle;
let readable: Bundle;
let browser: Browser;
let inNode: Findings;

beforeAll(async () => {
  minified = await bundle('kernels');
  // a minifier renames what tfjs-wasm's threads, which get the text of a function, look for: its threaded build then never starts
  readable = await bundle('kernels', false);
  browser = await launch();
  inNode = await runKernels({});
});
afterAll(async () => {
  await browser?.close();
  minified?.remove();
  readable?.remove();
});

interface Setting {
  readonly page: string;
  readonly built: () => Bundle;
  readonly isolated: boolean;
  readonly threads: boolean;
}

async function inPage({ built, isolated, threads }: Setting): Promise<{ findings: Findings; isIsolated: boolean; complaints: string[] }> {
  const server = await built().serve(isolated);
  const page = await browser.newPage();
  try {
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(server.address);
    await page.waitForFunction(() => document.title === 'ready');
    const findings = await page.evaluate(async (mayThread) => {
      const { runKernels: run } = globalThis as unknown as { runKernels: (options: object, threads: boolean) => Promise<Findings> };
      return run({ wasmPaths: './wasm/' }, mayThread);
    }, threads);
    return { findings, isIsolated: await page.evaluate(() => crossOriginIsolated), complaints };
  } finally {
    await page.close();
    await server.close();
  }
}

/** Largest difference, relative to the largest number. */
function distance(given: readonly number[], wanted: readonly number[]): number {
  expect(given).toHaveLength(wanted.length);
  const scale = Math.max(...wanted.map(Math.abs));
  expect(scale).toBeGreaterThan(0);
  return Math.max(...given.map((value, i) => Math.abs(value - wanted[i]!))) / scale;
}

describe('the bundled kernels in Chromium', () => {
  test.for<Setting>([
    { page: 'a plain page', built: () => minified, isolated: false, threads: true },
    { page: 'a cross-origin isolated page', built: () => minified, isolated: true, threads: false },
    { page: 'an isolated page, in the shared memory of the threaded build', built: () => readable, isolated: true, threads: true },
  ])('give in $page what they give in Node', { timeout: 60_000 }, async (setting) => {
    const { findings, isIsolated, complaints } = await inPage(setting);
    expect(isIsolated).toBe(setting.isolated);
    expect(findings.shared).toBe(setting.isolated && setting.threads);
    const { training, explanation } = findings;
    expect(explanation.backend).toBe('wasm');
    expect(explanation.kernelPackages).toEqual(inNode.explanation.kernelPackages);
    expect(explanation.kernelPackages).toEqual([expect.stringMatching(/^kernels-wasm \((relaxed|simd)\)$/)]);
    for (const kernel of ['LinearAttention', 'LinearAttentionGrad']) {
      const runs = explanation.kernels.filter((run) => run.kernel === kernel);
      expect(runs.map(({ implementation }) => implementation)).toEqual([{ kind: 'fused', label: explanation.kernelPackages[0] }]);
    }
    expect(findings.replaced).toBe(true);
    expect(training.losses).toHaveLength(10);
    expect(training.losses.at(-1)!).toBeLessThan(training.losses[0]!);
    expect(training.leaked).toBe(0);
    expect(distance(training.losses, inNode.training.losses)).toBeLessThan(1e-5);
    for (const name of ['output', 'gradient', 'product', 'productOfTfjs'] as const) {
      expect(distance(findings[name], inNode[name]), name).toBeLessThan(1e-5);
    }
    expect(distance(findings.product, findings.productOfTfjs)).toBeLessThan(1e-5);
    expect(complaints).toEqual([]);
  });
});
