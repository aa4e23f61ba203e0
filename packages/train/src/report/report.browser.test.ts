import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { expect, it } from 'vitest';
import { writeReport } from './write.ts';

it.each(['light', 'dark'] as const)('the report draws its four charts in %s, without the network', async (colorScheme) => {
  const folder = await mkdtemp(join(tmpdir(), 'seqloom-report-'));
  const browser = await chromium.launch({ executablePath: process.env.SEQLOOM_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
  try {
    const path = join(folder, 'report.html');
    const metrics = Array.from({ length: 300 }, (_, i) => ({
      step: i + 1,
      loss: 2,
      bitsPerByte: 2 + 6 * Math.exp(-i / 40),
      learningRate: 1e-3 * (1 - i / 300),
      gradientNorm: 0.5,
      tokensPerSecond: 5000,
      skipped: 0,
    }));
    await writeReport(path, { title: 'run', metrics, evaluations: [{ step: 300, bitsPerByte: 2.1 }], markovBitsPerByte: [3.45, 2.8] });
    const page = await browser.newPage({ colorScheme });
    const faults: string[] = [];
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('request', (request) => {
      if (!request.url().startsWith('file:')) faults.push(request.url());
    });
    await page.goto(pathToFileURL(path).href);
    await page.locator('#speed canvas').waitFor();
    const inked = await page.locator('canvas').evaluateAll((list) =>
      list.map((element) => {
        const canvas = element as HTMLCanvasElement;
        const pixels = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height).data;
        return pixels.some((value) => value !== 0);
      }),
    );
    expect(inked).toEqual([true, true, true, true]);
    expect(faults).toEqual([]);
  } finally {
    await browser.close();
    await rm(folder, { recursive: true });
  }
});
