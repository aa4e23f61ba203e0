/// <reference lib="esnext.disposable" />
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, open, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { SeqLoomError } from '../error.ts';
import { openSafetensors, writeSafetensorsFile, writeShardedSafetensors } from './file.ts';
import { INDEX_FILE, readSafetensors, writeSafetensors } from './index.ts';
import type { SafeTensor } from './index.ts';

const MiB = 2 ** 20;
let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seqloom-safetensors-'));
  path = join(folder, 'model.safetensors');
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const TENSORS: Record<string, SafeTensor> = {
  weight: { dtype: 'F32', shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
  index: { dtype: 'I64', shape: [1], data: BigInt64Array.of(-1n) },
  half: { dtype: 'F16', shape: [3], data: Uint16Array.of(1, 2, 3) },
};

test('a file equals the one made in memory, byte for byte, whether its data is given or made on demand', async () => {
  const options = { metadata: { format: 'pt' }, dtype: 'BF16' as const };
  const wanted = writeSafetensors(TENSORS, options);
  await writeSafetensorsFile(path, TENSORS, options);
  expect(new Uint8Array(await readFile(path))).toEqual(wanted);
  const order: string[] = [];
  const lazy = Object.entries(TENSORS).map(([name, tensor]) => {
    const data = async (): Promise<SafeTensor['data']> => {
      order.push(name);
      return tensor.data;
    };
    return [name, { ...tensor, data }] as const;
  });
  await writeSafetensorsFile(path, lazy, options);
  expect(new Uint8Array(await readFile(path))).toEqual(wanted);
  expect(order).toEqual(['index', 'half', 'weight']);
  expect(await readdir(folder)).toEqual(['model.safetensors']);
  await using reader = await openSafetensors(path);
  const { tensors } = readSafetensors(wanted);
  for await (const [name, tensor] of reader) expect(tensor).toEqual(tensors[name]);
  expect(await reader.tensor('weight')).toEqual(tensors['weight']);
});

test('tensors are read by place, many at once', async () => {
  await writeSafetensorsFile(path, TENSORS);
  await using reader = await openSafetensors(path);
  const all = await Promise.all(Array.from({ length: 300 }, (_, i) => reader.tensor(Object.keys(TENSORS)[i % 3])));
  all.forEach((tensor, i) => expect(tensor).toEqual(Object.values(TENSORS)[i % 3]));
});

describe('a large file', () => {
  const COUNT = 25;
  const ELEMENTS = 2 * MiB;

  async function peakOf(work: (sample: () => void) => Promise<void>): Promise<number> {
    const before = process.memoryUsage().rss;
    let peak = before;
    await work(() => (peak = Math.max(peak, process.memoryUsage().rss)));
    return peak - before;
  }

  test('200 MiB are written and read one tensor at a time, in much less memory than the file', async ({ annotate }) => {
    let made = 0;
    const writing = await peakOf(async (sample) => {
      const entries = Array.from({ length: COUNT }, (_, i) => {
        const data = (): Float32Array => {
          sample();
          made++;
          return new Float32Array(ELEMENTS).fill(i);
        };
        return [`layer.${i}`, { dtype: 'F32' as const, shape: [ELEMENTS], data }] as const;
      });
      await writeSafetensorsFile(path, entries);
    });
    expect(made).toBe(COUNT);
    expect((await stat(path)).size).toBeGreaterThan(200 * MiB);
    let read = 0;
    const reading = await peakOf(async (sample) => {
      await using reader = await openSafetensors(path);
      for await (const [name, { data }] of reader) {
        expect(data.length).toBe(ELEMENTS);
        for (const i of [0, 12_345, ELEMENTS - 1]) expect(data[i]).toBe(Number(name.slice(6)));
        read++;
        sample();
      }
    });
    expect(read).toBe(COUNT);
    await annotate(
      `peak resident memory above the start: writing ${Math.round(writing / MiB)} MiB, reading ${Math.round(reading / MiB)} MiB`,
    );
    expect(writing).toBeLessThan(120 * MiB);
    expect(reading).toBeLessThan(120 * MiB);
  });

  test('opening a sparse 8 GiB file and reading one small tensor behind 4 GiB touches little', async () => {
    const bytes = 4 * 2 ** 30;
    const header = JSON.stringify({
      a: { dtype: 'U8', shape: [bytes], data_offsets: [0, bytes] },
      b: { dtype: 'U8', shape: [4], data_offsets: [bytes, bytes + 4] },
      c: { dtype: 'U8', shape: [bytes], data_offsets: [bytes + 4, 2 * bytes + 4] },
    });
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(header.length));
    await writeFile(path, Buffer.concat([prefix, Buffer.from(header)]));
    const start = 8 + header.length;
    await truncate(path, start + 2 * bytes + 4);
    const handle = await open(path, 'r+');
    await handle.write(Uint8Array.of(9, 8, 7, 6), 0, 4, start + bytes);
    await handle.close();
    const peak = await peakOf(async (sample) => {
      await using reader = await openSafetensors(path);
      expect((await reader.tensor('b')).data).toEqual(Uint8Array.of(9, 8, 7, 6));
      sample();
    });
    expect(peak).toBeLessThan(32 * MiB);
  });
});

describe('a failure leaves the older file as it was, and nothing else', () => {
  let before: Buffer;
  beforeEach(async () => {
    await writeSafetensorsFile(path, TENSORS);
    before = await readFile(path);
  });
  afterEach(async () => {
    expect(await readdir(folder)).toEqual(['model.safetensors']);
    expect((await readFile(path)).equals(before)).toBe(true);
  });

  const big = (data: () => Float32Array | Promise<Float32Array>) => ({ dtype: 'F32' as const, shape: [MiB], data });
  const good = big(() => new Float32Array(MiB));

  async function handleMethods(): Promise<FileHandle> {
    const handle = await open(path, 'r');
    await handle.close();
    return Object.getPrototypeOf(handle) as FileHandle;
  }

  test('a data function that throws half-way: its own error comes through', async () => {
    const cause = new TypeError('no more');
    const bad = big(() => {
      throw cause;
    });
    await expect(writeSafetensorsFile(path, { a: good, b: bad })).rejects.toBe(cause);
    await expect(writeSafetensorsFile(path, { a: good, b: big(() => Promise.reject(cause)) })).rejects.toBe(cause);
  });

  test('a data function that makes the wrong amount', async () => {
    await expect(writeSafetensorsFile(path, { a: good, b: big(() => new Float32Array(3)) })).rejects.toThrow(
      /tensor "b" data must be 1048576 elements.* got 3/,
    );
  });

  test('bad input is refused before a temporary file is made', async () => {
    const opened = vi.fn(() => new Float32Array(MiB));
    await expect(writeSafetensorsFile(path, { a: big(opened), b: { dtype: 'F32', shape: [2], data: [1] } })).rejects.toThrow(
      /tensor "b" data must be 2/,
    );
    await expect(writeSafetensorsFile(path, { a: big(opened) }, { metadata: { a: 1 } as never })).rejects.toThrow(SeqLoomError);
    expect(opened).not.toHaveBeenCalled();
  });

  test.each([
    ['write', 'ENOSPC', /Free space on the disk/],
    ['sync', 'EIO', /See the cause/],
  ] as const)('%s failing with %s', async (method, code, message) => {
    const methods = await handleMethods();
    const real = Reflect.get(methods, 'write') as (...given: unknown[]) => Promise<never>;
    let calls = 0;
    vi.spyOn(methods, method).mockImplementation(function (this: FileHandle, ...given: unknown[]) {
      if (method === 'write' && ++calls < 3) return real.apply(this, given);
      return Promise.reject(Object.assign(new Error(`${code}: simulated`), { code }));
    } as never);
    const writing = writeSafetensorsFile(path, { a: good, b: good, c: good });
    await expect(writing).rejects.toBeInstanceOf(SeqLoomError);
    await expect(writing).rejects.toThrow(message);
    await expect(writing).rejects.toMatchObject({ argument: path, cause: { code } });
    if (method === 'write') expect(calls).toBe(3);
  });

  test('an abort half-way', async () => {
    const controller = new AbortController();
    const stop = big(() => {
      controller.abort(new Error('stop'));
      return new Float32Array(MiB);
    });
    await expect(writeSafetensorsFile(path, { a: good, b: stop }, { signal: controller.signal })).rejects.toThrow('stop');
  });

  test('the system refusing to let the file grow: the write that crosses the limit is a short one', async () => {
    const script = `
      import { writeSafetensorsFile } from ${JSON.stringify(new URL('file.ts', import.meta.url).href)};
      const entry = { dtype: 'F32', shape: [${MiB}], data: () => new Float32Array(${MiB}) };
      await writeSafetensorsFile(${JSON.stringify(path)}, { a: entry, b: entry }).catch((error) => console.log(error.name, error.cause.code));
    `;
    const run = promisify(execFile);
    // 6 MiB in blocks of 512 bytes or of 1 KiB, as shells differ
    const limited = ['-c', 'ulimit -f 6144; exec "$0" --input-type=module -e "$1"', process.execPath, script];
    const { stdout } = await run('bash', limited);
    expect(stdout.trim()).toBe('SeqLoomError EFBIG');
  });
});

describe('paths', () => {
  test('a missing file or folder, and a folder in place of a file, are named', async () => {
    await expect(openSafetensors(join(folder, 'none.safetensors'))).rejects.toThrow(/none\.safetensors must be a file .* got ENOENT/);
    await expect(openSafetensors(folder)).rejects.toThrow(/model\.safetensors must be a file/);
    await expect(writeSafetensorsFile(join(folder, 'none', 'a.safetensors'), TENSORS)).rejects.toThrow(/that its folder exists/);
    await mkdir(path);
    await expect(writeSafetensorsFile(path, TENSORS)).rejects.toBeInstanceOf(SeqLoomError);
    expect(await readdir(folder)).toEqual(['model.safetensors']);
  });

  test('a truncated file is refused when it is opened, or when it shrinks later', async () => {
    await writeSafetensorsFile(path, TENSORS);
    const reader = await openSafetensors(path);
    const { size } = await stat(path);
    await truncate(path, size - 1);
    await expect(reader.tensor('half')).rejects.toThrow(/able to give 6 bytes .* got 5 bytes/);
    await reader.close();
    await expect(openSafetensors(path)).rejects.toThrow(/past the end/);
    await truncate(path, 5);
    await expect(openSafetensors(path)).rejects.toThrow(/at least 8 bytes long; got 5 bytes/);
  });
});

describe('sharded sets', () => {
  const many = Array.from(
    { length: 10 },
    (_, i) => [`layer.${i}`, { dtype: 'F32' as const, shape: [100], data: new Float32Array(100).fill(i) }] as const,
  );

  test('are written within the limit, read as one by folder and by index, and equal the single file', async () => {
    await writeShardedSafetensors(folder, many, { maxShardBytes: 1200, metadata: { format: 'pt' } });
    const files = (await readdir(folder)).sort();
    expect(files).toEqual([1, 2, 3, 4].map((i) => `model-0000${i}-of-00004.safetensors`).concat(INDEX_FILE));
    expect(JSON.parse(await readFile(join(folder, INDEX_FILE), 'utf8'))).toMatchObject({ metadata: { total_size: 4000 } });
    const { tensors } = readSafetensors(writeSafetensors(many));
    for (const place of [folder, join(folder, INDEX_FILE)]) {
      await using reader = await openSafetensors(place);
      expect([...reader.tensors.keys()].sort()).toEqual(Object.keys(tensors).sort());
      expect({ ...reader.metadata }).toEqual({ format: 'pt' });
      for await (const [name, tensor] of reader) expect(tensor).toEqual(tensors[name]);
    }
    await rm(join(folder, files[1]));
    await rm(join(folder, files[3]));
    await expect(openSafetensors(folder)).rejects.toThrow(
      /all 4 readable; got no model-00002-of-00004.safetensors, model-00004-of-00004.safetensors/,
    );
  });

  test('an index comes before a single file in the same folder', async () => {
    await writeSafetensorsFile(path, TENSORS);
    await writeShardedSafetensors(folder, many);
    await using reader = await openSafetensors(folder);
    expect(reader.tensors.size).toBe(10);
  });

  test('a failure in the last shard leaves the older set whole', async () => {
    await writeShardedSafetensors(folder, many, { maxShardBytes: 1200 });
    const before = (await readdir(folder)).sort();
    const failing = many.map(([name, tensor], i) => {
      const data = (): Float32Array => {
        if (i === 9) throw new Error('half-way');
        return new Float32Array(100);
      };
      return [name, { ...tensor, data }] as const;
    });
    await expect(writeShardedSafetensors(folder, failing, { maxShardBytes: 1200 })).rejects.toThrow('half-way');
    expect((await readdir(folder)).sort()).toEqual(before);
    await using reader = await openSafetensors(folder);
    for await (const [name, { data }] of reader) expect(data[0]).toBe(Number(name.slice(6)));
  });

  test('a shard that leads out of the folder is refused before it is touched', async () => {
    await writeSafetensorsFile(path, TENSORS);
    await mkdir(join(folder, 'sub'));
    await writeFile(join(folder, 'sub', INDEX_FILE), JSON.stringify({ weight_map: { weight: '../model.safetensors' } }));
    await expect(openSafetensors(join(folder, 'sub'))).rejects.toThrow(
      /plain '\*\.safetensors' file name without a folder; got "\.\.\/model\.safetensors"/,
    );
  });
});
