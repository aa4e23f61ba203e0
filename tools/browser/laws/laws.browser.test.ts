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

interface OpenLaws {
  readonly file: string;
  readonly page: Page;
  readonly tests: readonly PageTest[];
  readonly pending: ReadonlyMap<string, Pending>;
}

/** Opens a page of its own for a law file: the tests wait there until the page is asked to run them. */
async function open(file: string): Promise<OpenLaws> {
  const page = await browser.newPage();
  const pending = new Map<string, Pending>();
  await page.exposeFunction('report', (outcome: Outcome) => pending.get(outcome.id)?.settle(outcome));
  page.on('pageerror', (error) => console.error(`${file}: ${error.message}`));
  await page.goto(server.address);
  await page.waitForFunction(() => document.title === 'ready');
  const tests = await page.evaluate(([path, variables]) => laws.declare(path, variables), [file, environment] as const);
  for (const { id } of tests) pending.set(id, new Pending());
  return { file, page, tests, pending };
}

// every test of a page becomes a test here, so they have to be known before any runs
const opened = await Promise.all(lawFiles().map(open)).catch(async (error: unknown) => {
  await close();
  throw error;
});

async function close(): Promise<void> {
  await browser.close();
  await server.close();
  built.remove();
}
afterAll(close);

describe.each(opened)('$file in Chromium', ({ file, page, tests, pending }) => {
  let run: Promise<PageRun>;
  beforeAll(() => {
    run = page.evaluate(() => laws.run());
    // a page that breaks leaves no test waiting
    run.catch((error: Error) => {
      for (const [id, { settle }] of pending) settle({ id, state: 'failed', messages: [error.message] });
    });
  });
  afterAll(() => page.close());

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
    for (const kind of ['laws of the op', 'golden vectors']) {
      expect(
        passed.some((title) => title.includes('> on webgpu > ') && title.includes(kind)),
        kind,
      ).toBe(true);
    }
  });
});
