import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, preview } from 'vite';
import { afterAll, expect, test } from 'vitest';
import { launch } from '../../tools/browser/bundle.ts';
import { root } from '../../tools/workspace.ts';

const folder = mkdtempSync(join(tmpdir(), 'seqloom-page-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the page loads a saved hybrid and writes with it', async () => {
  const flags = [
    '--conditions=@seqloom/source',
    '--no-warnings',
    'examples/compose-hybrid.ts',
    'README.md',
    join(folder, 'public/model'),
    '20',
  ];
  execFileSync(process.execPath, flags, { cwd: root });
  const page = { root: join(root, 'examples/browser'), publicDir: join(folder, 'public'), logLevel: 'warn' } as const;
  await build({ ...page, build: { outDir: join(folder, 'dist'), emptyOutDir: true } });
  const server = await preview({ ...page, build: { outDir: join(folder, 'dist') }, preview: { host: '127.0.0.1', port: 0 } });
  const browser = await launch();
  try {
    const tab = await browser.newPage();
    const complaints: string[] = [];
    tab.on('pageerror', (error) => complaints.push(error.message));
    await tab.goto(server.resolvedUrls!.local[0]!);
    await tab.waitForSelector('body[data-state=ready]', { timeout: 60_000 });
    expect(await tab.textContent('#status')).toMatch(/parameters on (wasm|webgpu)/);
    await tab.fill('#prompt', 'Sequence');
    await tab.click('#write');
    await tab.waitForSelector('body[data-state=done]', { timeout: 200_000 });
    const text = (await tab.textContent('#text'))!;
    expect(text.startsWith('Sequence')).toBe(true);
    expect(text.length).toBeGreaterThan(100);
    expect(await tab.textContent('#status')).toMatch(/tokens\/s/);
    expect(complaints).toEqual([]);
    if (process.env.SEQLOOM_SCREENSHOT) await tab.screenshot({ path: process.env.SEQLOOM_SCREENSHOT });
  } finally {
    await browser.close();
    await server.close();
  }
});
