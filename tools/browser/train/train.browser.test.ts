import { expect, test } from 'vitest';
import { bundle, launch } from '../bundle.ts';
import type { TrainingOutcome } from './outcome.ts';

declare const outcome: Promise<TrainingOutcome>;

test('a page trains a hybrid for ten steps and writes with it, on WebGPU with the kernels of kernels-gpu', async () => {
  const built = await bundle('train');
  const server = await built.serve();
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: { width: 820, height: 900 } });
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => {
      // a shader or a dispatch that WebGPU refuses is only said here
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    await page.goto(server.address);
    const { backend, reason, kernelPackages, kernels, losses, tensors, text, leaked } = await page.evaluate(() => outcome);
    console.log(`${reason}: ${losses.map((loss) => loss.toFixed(2)).join(' ')} bits per byte; ${JSON.stringify(text)}`);
    expect({ backend, kernelPackages }).toEqual({ backend: 'webgpu', kernelPackages: ['kernels-gpu (wgsl)'] });
    expect(losses).toHaveLength(10);
    expect(losses.every(Number.isFinite)).toBe(true);
    // an untrained model needs 8 bits per byte
    expect(losses[0]!).toBeGreaterThan(7);
    expect(losses.at(-1)!).toBeLessThan(losses[0]! - 2);
    expect(text.length).toBeGreaterThan(20);
    expect(kernels.filter(({ label }) => label !== 'kernels-gpu (wgsl)')).toEqual([]);
    const ran = kernels.map(({ kernel }) => kernel);
    for (const kernel of ['LinearAttention', 'SelectiveScan', 'SoftmaxAttention']) {
      expect(ran).toEqual(expect.arrayContaining([kernel, `${kernel}Grad`]));
    }
    expect(new Set(tensors.slice(1)).size).toBe(1);
    expect(leaked).toBe(0);
    expect(complaints).toEqual([]);
    if (process.env.SEQLOOM_SCREENSHOT) await page.screenshot({ path: process.env.SEQLOOM_SCREENSHOT, fullPage: true });
  } finally {
    await browser.close();
    await server.close();
    built.remove();
  }
});
