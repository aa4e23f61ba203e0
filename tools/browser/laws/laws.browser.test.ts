import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundle, launch } from '../bundle.ts';
import { addresses, copyGoldenFiles } from './golden-files.ts';
import { lawFiles } from './mechanisms.ts';
import type { LawPage, Outcome, PageRun, PageTest } from './outcome.ts';

/** The page's globals, as functions that run there see them. */
declare const laws: LawPage;
const environment = { SEQLOOM_WEBGPU: process.env.SEQLOOM_WEBGPU ?? 'sample' };

const built = await bundle('laws', false, [addresses]);
copyGoldenFiles(built.folder);
const server = await built.serve();
const browser = await launch();

/** The outcome of one test in the page, as soon as it is known. */
class Pending {
  readonly outcome: Promise<Outcome>;
  settle!: (outcome: Outcome) => void;
  constructor() {
    this.outcome = new Promise((resolve) => (this.settle = resolve));
  }
}

/** Opens a page of its own for a law file: its tests wait there until the page is asked to run them. */
async function open(file: string, report: (outcome: Outcome) => void): Promise<{ page: Page; tests: PageTest[] }> {
  const page = await browser.newPage();
  await page.exposeFunction('report', report);
  page.on('pageerror', (error) => console.error(`${file}: ${error.message}`));
  await page.goto(server.address);
  await page.waitForFunction(() => document.title === 'ready');
  const tests = await page.evaluate(([path, variables]) => laws.declare(path, variables), [file, environment] as const);
  return { page, tests };
}

async function close(): Promise<void> {
  await browser.close();
  await server.close();
  built.remove();
}
afterAll(close);

/** The tests of each law file: every one becomes a test here, so they have to be known before any runs. */
const declared: { readonly file: string; readonly tests: readonly PageTest[] }[] = [];
try {
  for (const file of lawFiles()) {
    const { page, tests } = await open(file, () => {});
    declared.push({ file, tests });
    await page.close();
  }
} catch (error) {
  await close();
  throw error;
}

describe.each(declared)('$file in Chromium', ({ file, tests }) => {
  const pending = new Map(tests.map(({ id }) => [id, new Pending()]));
  let page: Page;
  let run: Promise<PageRun>;
  beforeAll(async () => {
    ({ page } = await open(file, (outcome) => pending.get(outcome.id)?.settle(outcome)));
    run = page.evaluate(() => laws.run());
    // a page that breaks leaves no test waiting
    run.catch((error: Error) => {
      for (const [id, { settle }] of pending) settle({ id, state: 'failed', messages: [error.message] });
    });
  });
  afterAll(() => page?.close());

  test.for(tests)('$title', async ({ id }, { skip }) => {
    const { state, messages } = await pending.get(id)!.outcome;
    if (state === 'skipped') skip(messages.join('; '));
    if (state === 'failed') throw new Error(messages.join('\n'));
  });

  test('ran on WebGPU, with the kernels of kernels-gpu', async () => {
    const { backend, reason, kernelPackages, kernels, submits, lines } = await run;
    console.log([`${file}: ${reason}; ${submits} submits; ${kernels.join(', ')}`, ...lines].join('\n'));
    expect(backend).toBe('webgpu');
    expect(kernelPackages).toEqual(['kernels-gpu (wgsl)']);
    expect(submits).toBeGreaterThan(10);
    expect(kernels.filter((kernel) => kernel.endsWith('kernels-gpu (wgsl)'))).not.toEqual([]);
    const outcomes = await Promise.all([...pending.values()].map(({ outcome }) => outcome));
    const passed = tests.filter((_, i) => outcomes[i]!.state === 'passed').map(({ title }) => title);
    const kinds = ['laws of the op', 'laws of', 'golden vectors'].filter((kind) => tests.some(({ title }) => title.startsWith(kind)));
    for (const kind of kinds) {
      expect(
        passed.some((title) => title.includes('> on webgpu > ') && title.startsWith(kind)),
        kind,
      ).toBe(true);
    }
  });
});
