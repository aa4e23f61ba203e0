/// <reference types="node" />
/// <reference lib="esnext.disposable" />
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { blobSource, bytesSource, httpSource, openSafetensorsSource, readSafetensors, writeSafetensors } from './index.ts';
import type { ByteSource, SafeTensor, TensorReader } from './index.ts';

const FILE = writeSafetensors(
  {
    big: { dtype: 'F32', shape: [3, 1_000_000], data: Float32Array.from({ length: 3_000_000 }, (_, i) => i) },
    half: { dtype: 'BF16', shape: [2], data: [1, 2] },
    index: { dtype: 'I64', shape: [2], data: [5, 6] },
    none: { dtype: 'F32', shape: [0], data: [] },
  },
  { metadata: { format: 'pt' } },
);

async function collect(reader: TensorReader): Promise<Record<string, SafeTensor>> {
  const tensors: Record<string, SafeTensor> = {};
  for await (const [name, tensor] of reader) tensors[name] = tensor;
  return tensors;
}

// millions of elements are too many for toEqual
function expectSame(got: SafeTensor, wanted: SafeTensor): void {
  const bytes = ({ data }: SafeTensor): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  expect([got.dtype, got.shape, got.data.constructor]).toEqual([wanted.dtype, wanted.shape, wanted.data.constructor]);
  expect(Buffer.compare(bytes(got), bytes(wanted))).toBe(0);
}

async function expectWhole(reader: TensorReader): Promise<void> {
  const wanted = readSafetensors(FILE);
  expect({ ...reader.metadata }).toEqual({ format: 'pt' });
  expect([...reader.tensors.keys()]).toEqual(['index', 'big', 'none', 'half']);
  const tensors = await collect(reader);
  for (const [name, tensor] of Object.entries(wanted.tensors)) {
    expectSame(tensors[name], tensor);
    expectSame(await reader.tensor(name), tensor);
  }
}

describe('bytes and blobs', () => {
  test.each([
    ['bytes', () => bytesSource(FILE)],
    ['blob', () => blobSource(new Blob([FILE]))],
  ])('%s: every tensor, on demand and iterated, equals the reading from memory', async (_, source) => {
    await using reader = await openSafetensorsSource(source());
    await expectWhole(reader);
  });

  test('a tensor owns its memory: changing it changes neither the source nor another reading', async () => {
    const file = FILE.slice();
    await using reader = await openSafetensorsSource(bytesSource(file));
    const first = await reader.tensor('half');
    first.data.fill(0 as never);
    for await (const [, { data }] of reader) {
      // small neighbours are read together but do not share a buffer
      expect(data.buffer.byteLength).toBe(data.byteLength);
      new Uint8Array(data.buffer).fill(0);
    }
    expect(Buffer.compare(file, FILE)).toBe(0);
    expect((await reader.tensor('half')).data).toEqual(Uint16Array.of(0x3f80, 0x4000));
  });

  test('a source may give unaligned Buffers', async () => {
    const pool = Buffer.alloc(FILE.byteLength + 1);
    pool.set(FILE, 1);
    const source: ByteSource = {
      size: FILE.byteLength,
      read: (offset, length) => Promise.resolve(pool.subarray(offset + 1, offset + 1 + length)),
    };
    await using reader = await openSafetensorsSource(source);
    await expectWhole(reader);
  });

  test('a header length above the limit is refused before it is read, however large the file', async () => {
    const read = vi.fn((_offset: number, length: number) => Promise.resolve(new Uint8Array(length).fill(7, 3, 4)));
    const opening = openSafetensorsSource({ size: 2 ** 40, read });
    await expect(opening).rejects.toThrow(/header length must be at most 100000000 bytes .* got 117440512 bytes/);
    expect(read.mock.calls).toEqual([[0, 8]]);
  });

  test('an unknown name is an error that lists what there is', async () => {
    await using reader = await openSafetensorsSource(bytesSource(FILE));
    await expect(reader.tensor('hal')).rejects.toThrow(
      /name must be one of the 4 tensors in bytes; got "hal". It holds "index", "big", "none", "half"/,
    );
    await expect(reader.tensor('__proto__')).rejects.toBeInstanceOf(SeqLoomError);
  });

  test('a closed reader says so; closing twice closes once', async () => {
    let closed = 0;
    const source: ByteSource = { ...bytesSource(FILE), close: () => Promise.resolve(void closed++) };
    const reader = await openSafetensorsSource(source);
    await reader.close();
    await reader.close();
    expect(closed).toBe(1);
    await expect(reader.tensor('half')).rejects.toThrow(/must be open; got a closed reader/);
    await expect(collect(reader)).rejects.toBeInstanceOf(SeqLoomError);
  });

  test('a source that ends early is an error, not a short tensor', async () => {
    const whole = bytesSource(FILE);
    const early: ByteSource = {
      size: whole.size,
      read: async (offset, length) => (await whole.read(offset, length)).subarray(0, Math.min(length, 5_000_000)),
    };
    const reader = await openSafetensorsSource(early);
    await expect(reader.tensor('big')).rejects.toThrow(/able to give 12000000 bytes at byte \d+; got 5000000 bytes/);
    expect((await reader.tensor('index')).data).toEqual(BigInt64Array.of(5n, 6n));
  });
});

describe('HTTP ranges', () => {
  let server: Server | undefined;
  const requests: string[] = [];
  afterEach(async () => {
    requests.length = 0;
    await new Promise((resolve) => (server === undefined ? resolve(undefined) : server.close(resolve)));
    server = undefined;
  });

  async function serve(answer: (request: IncomingMessage, response: ServerResponse, begin: number, end: number) => void): Promise<string> {
    server = createServer((request, response) => {
      requests.push(request.headers.range ?? 'none');
      const [, begin, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      response.setHeader('connection', 'close');
      answer(request, response, Number(begin), Math.min(Number(last) + 1, FILE.byteLength));
    });
    await new Promise((resolve) => server!.listen(0, '127.0.0.1', () => resolve(undefined)));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.safetensors`;
  }

  const partial = (response: ServerResponse, begin: number, end: number, headers: object = {}): void => {
    response.writeHead(206, { 'content-range': `bytes ${begin}-${end - 1}/${FILE.byteLength}`, ...headers });
    response.end(FILE.subarray(begin, end));
  };

  test('every tensor equals the reading from memory; opening is one request', async () => {
    const url = await serve((_, response, begin, end) => partial(response, begin, end, { etag: '"v1"' }));
    await using reader = await openSafetensorsSource(await httpSource(url));
    expect(requests).toEqual(['bytes=0-65535']);
    await expectWhole(reader);
  });

  test('headers go along, and a strong tag guards every later range', async () => {
    const seen: (string | string[] | undefined)[] = [];
    const url = await serve((request, response, begin, end) => {
      seen.push(request.headers.authorization, request.headers['if-range']);
      partial(response, begin, end, { etag: '"v1"' });
    });
    await using reader = await openSafetensorsSource(await httpSource(url, { headers: { authorization: 'Bearer x' } }));
    await reader.tensor('big');
    expect(seen).toEqual(['Bearer x', undefined, 'Bearer x', '"v1"']);
  });

  test.each<[string, (response: ServerResponse) => void, RegExp]>([
    ['a server without ranges', (response) => response.writeHead(200).end(FILE), /answered with status 206 .* got status 200/],
    ['a missing file', (response) => response.writeHead(404).end('no'), /got status 404/],
    [
      'another range than asked',
      (response) => response.writeHead(206, { 'content-range': 'bytes 5-9/100' }).end('abcde'),
      /bytes 5-9\/100/,
    ],
    ['an unknown size', (response) => response.writeHead(206, { 'content-range': 'bytes 0-4/*' }).end('abcde'), /bytes 0-4\/\*/],
    ['no content-range', (response) => response.writeHead(206).end('abcde'), /content-range null/],
  ])('%s is refused', async (_, answer, message) => {
    const url = await serve((_request, response) => answer(response));
    const opening = httpSource(url);
    await expect(opening).rejects.toBeInstanceOf(SeqLoomError);
    await expect(opening).rejects.toThrow(message);
  });

  test('a file that changes between requests is refused', async () => {
    const url = await serve((request, response, begin, end) => {
      if (request.headers['if-range'] === undefined) partial(response, begin, end, { etag: '"v1"' });
      else response.writeHead(200).end(FILE);
    });
    const reader = await openSafetensorsSource(await httpSource(url));
    await expect(reader.tensor('big')).rejects.toThrow(/got status 200/);
  });

  test('a size that changes is refused where there is no tag', async () => {
    const url = await serve((_, response, begin, end) => {
      if (begin === 0) partial(response, begin, end);
      else response.writeHead(206, { 'content-range': `bytes ${begin}-${end - 1}/${FILE.byteLength + 1}` }).end(FILE.subarray(begin, end));
    });
    const reader = await openSafetensorsSource(await httpSource(url));
    await expect(reader.tensor('big')).rejects.toThrow(/as at the first request/);
  });

  test('an abort stops the reading with its own reason', async () => {
    const url = await serve((_, response, begin, end) => partial(response, begin, end));
    const controller = new AbortController();
    const reader = await openSafetensorsSource(await httpSource(url, { signal: controller.signal }));
    controller.abort(new Error('enough'));
    await expect(reader.tensor('big')).rejects.toThrow('enough');
  });
});
