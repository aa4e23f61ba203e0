import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { readSafetensors } from '@seqloom/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { root } from '../workspace.ts';
import { bundle, launch } from './bundle.ts';

const golden = join(root, 'packages/models/golden/models/llama');
const COMMIT = 'c'.repeat(40);
const ranges: string[] = [];
let hub: Server;

/** The part of a hub that a page meets, for one model, with leave for other origins. */
beforeAll(async () => {
  const files = new Map(['config.json', 'model.safetensors'].map((file) => [file, readFileSync(join(golden, file))]));
  hub = createServer((request, response) => {
    response.setHeader('access-control-allow-origin', '*');
    response.setHeader('access-control-allow-headers', 'range, authorization');
    response.setHeader('access-control-expose-headers', 'content-range, etag, x-error-code, x-linked-size, x-linked-etag');
    const path = new URL(request.url!, 'http://hub').pathname;
    const json = (value: unknown): void => {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(value));
    };
    if (request.method === 'OPTIONS') return void response.end();
    if (path.startsWith('/api/models/org/model/revision/')) return json({ _id: 'x', id: 'org/model', sha: COMMIT });
    if (path.startsWith(`/api/models/org/model/tree/${COMMIT}`))
      return json([...files].map(([name, { length }]) => ({ type: 'file', path: name, size: length, oid: 'x' })));
    const name = path.split('/').at(-1)!;
    const content = files.get(name);
    if (!content || !path.startsWith(`/org/model/resolve/${COMMIT}/`)) {
      response.writeHead(404, { 'x-error-code': 'EntryNotFound' });
      return void response.end();
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (name.endsWith('.safetensors')) ranges.push(request.headers.range ?? 'whole');
    const [from, to] = range ? [Number(range[1]), Math.min(Number(range[2]) + 1, content.length)] : [0, content.length];
    response.setHeader('etag', `"${createHash('sha256').update(content).digest('hex')}"`);
    if (range) response.setHeader('content-range', `bytes ${from}-${to - 1}/${content.length}`);
    response.writeHead(range ? 206 : 200);
    response.end(content.subarray(from, to));
  });
  await new Promise<void>((resolve) => hub.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  hub.closeAllConnections();
  hub.close();
});

test('a page loads a checkpoint from a hub by ranges and continues a prompt as the original code does', async () => {
  const { tensors } = readSafetensors(readFileSync(join(golden, 'io.safetensors')));
  const prompt = [...(tensors['input_ids']!.data as Int32Array).subarray(0, 13)];
  const built = await bundle('pretrained');
  const server = await built.serve();
  const browser = await launch();
  try {
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(server.address);
    await page.waitForFunction(() => document.title === 'ready');
    const address = `http://127.0.0.1:${(hub.address() as AddressInfo).port}`;
    const outcome = await page.evaluate(
      async ([url, ids]) =>
        (globalThis as unknown as { continuePrompt: (url: string, prompt: readonly number[]) => Promise<unknown> }).continuePrompt(
          url,
          ids,
        ),
      [address, prompt] as const,
    );
    const expected = [...(tensors['generated_ids']!.data as Int32Array).subarray(0, 16)];
    expect(outcome).toEqual({ ids: expected, missing: [], leaked: 0 });
    expect(complaints).toEqual([]);
    expect(ranges.length).toBeGreaterThan(1);
    expect(ranges).not.toContain('whole');
  } finally {
    await browser.close();
    await server.close();
    built.remove();
  }
});
