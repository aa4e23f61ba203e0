import { expect, test } from 'vitest';
import { bundle, launch } from '../bundle.ts';
import type { TuningPage } from './page.ts';

declare const tuning: TuningPage;

test('a page keeps what it measured in localStorage, and finds it when it is opened again', async () => {
  const built = await bundle('tuning');
  const server = await built.serve();
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    const open = async () => {
      await page.goto(server.address);
      await page.waitForFunction(() => document.title === 'ready');
      return page.evaluate(() => tuning.setUp());
    };
    const { inUse: table, features } = await open();
    console.log(`${table.adapter}: ${features.join(' ')}`);
    expect(table.origin).toBe('table');
    const report = await page.evaluate(() => tuning.measure());
    expect(report.stored).toBe('localStorage seqloom-kernels-gpu-tuning');
    expect(report.timed.length).toBe(features.includes('subgroups') ? 2 : 0);
    for (const { milliseconds } of report.timed) expect(milliseconds).toBeGreaterThan(0);
    const { inUse } = await open();
    expect(inUse).toEqual({ ...table, origin: 'measured', tuning: { ...table.tuning, ...report.tuning } });
    await page.evaluate(() => localStorage.setItem('seqloom-kernels-gpu-tuning', '{"broken'));
    expect((await open()).inUse).toEqual(table);
    expect(complaints).toEqual([]);
  } finally {
    await browser.close();
    await server.close();
    built.remove();
  }
});
