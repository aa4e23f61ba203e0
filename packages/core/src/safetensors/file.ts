/** Safetensors files on disk, for Node: streamed in both directions and replaced atomically. */
import { randomUUID } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fail } from '../error.ts';
import type { NumberData } from './convert.ts';
import type { TensorData } from './dtype.ts';
import type { PlannedTensor, SafetensorsWriteOptions, TensorEntries, TensorInput } from './layout.ts';
import { checkData, encodeHeader, encodeTensor, planTensors } from './layout.ts';
import { MAX_HEADER_BYTES } from './header.ts';
import type { TensorReader } from './reader.ts';
import { openSafetensorsSource } from './reader.ts';
import { INDEX_FILE, formatSafetensorsIndex, openShardedSafetensors, parseSafetensorsIndex, splitShards } from './shards.ts';
import type { ByteSource } from './source.ts';

/** Elements to write, or a function that makes them when their turn comes, so that one tensor at a time is in memory. */
export type StreamedData = TensorData | NumberData | (() => TensorData | NumberData | Promise<TensorData | NumberData>);

/** What the file writers may be told. */
export interface SafetensorsFileOptions extends SafetensorsWriteOptions {
  /** stops the writing; what was there before stays as it was */
  readonly signal?: AbortSignal;
}

/** What `writeShardedSafetensors` may be told. */
export interface ShardedFileOptions extends SafetensorsFileOptions {
  /** tensor bytes per shard at most, 5e9 by default; a larger tensor has a shard of its own */
  readonly maxShardBytes?: number;
}

const mechanism = 'safetensors';
// well below the 2 GiB that one system call moves
const CHUNK_BYTES = 64 * 2 ** 20;

/**
 * Opens a safetensors file, a `*.index.json` of a sharded set, or a folder with `model.safetensors.index.json` or `model.safetensors`.
 *
 * Use it with `await using`, or call `close()`.
 *
 * @throws {SeqLoomError} when the file or a shard is missing, truncated, damaged or hostile
 */
export async function openSafetensors(path: string): Promise<TensorReader> {
  const found = await onDisk(path, stat(path));
  if (found.isDirectory()) {
    const index = join(path, INDEX_FILE);
    const sharded = await stat(index).then(
      () => true,
      () => false,
    );
    return openSafetensors(sharded ? index : join(path, 'model.safetensors'));
  }
  if (!path.endsWith('.json')) return openSafetensorsSource(await fileSource(path));
  if (found.size > MAX_HEADER_BYTES) {
    const remedy = 'Open the index of a sharded set, or a safetensors file.';
    fail({ mechanism, argument: path, wanted: `an index of at most ${MAX_HEADER_BYTES} bytes`, given: `${found.size} bytes`, remedy });
  }
  const index = parseSafetensorsIndex(await onDisk(path, readFile(path)), path);
  return openShardedSafetensors(index, (file) => fileSource(join(dirname(path), file)));
}

/**
 * A `ByteSource` over a file; it holds one file handle until it is closed.
 *
 * @throws {SeqLoomError} when there is no such file, or it is not a regular one
 */
export async function fileSource(path: string): Promise<ByteSource> {
  // before open, which would wait for ever on a pipe
  const found = await onDisk(path, stat(path));
  if (!found.isFile())
    fail({ mechanism, argument: path, wanted: 'a regular file', given: 'something else', remedy: 'Give the path of a file.' });
  const handle = await onDisk(path, open(path, 'r'));
  return {
    size: found.size,
    label: path,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const size = Math.min(CHUNK_BYTES, length - done);
        const { bytesRead } = await onDisk(path, handle.read(bytes, done, size, offset + done));
        if (bytesRead === 0) return bytes.subarray(0, done);
        done += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}

/**
 * Writes a safetensors file atomically: to a temporary file in the same folder, which is synced and then takes the name.
 *
 * On any failure (disk full, a data function that throws, an abort) the temporary file is removed and an older file stays as it was.
 *
 * @param path the file to make or replace
 * @param entries name to tensor; dtype and shape are needed at once, the data may be a function
 * @throws {SeqLoomError} on bad input or a failing disk; an error of a data function or the abort reason as it is
 */
export async function writeSafetensorsFile(
  path: string,
  entries: TensorEntries<TensorInput<StreamedData>>,
  options: SafetensorsFileOptions = {},
): Promise<void> {
  await writeAll([{ path, chunks: fileChunks(planTensors(entries, options.dtype), options.metadata) }], options.signal);
}

/**
 * Writes a sharded set, `model-00001-of-000NN.safetensors` and `model.safetensors.index.json`, into an existing folder.
 *
 * All files are complete on disk before the first takes its name, the index last, so a failure while writing changes nothing.
 *
 * @throws {SeqLoomError} as `writeSafetensorsFile`, and when `maxShardBytes` is not a whole number from 1
 */
export async function writeShardedSafetensors(
  folder: string,
  entries: TensorEntries<TensorInput<StreamedData>>,
  options: ShardedFileOptions = {},
): Promise<void> {
  const planned = planTensors(entries, options.dtype);
  const shards = splitShards(planned, options.maxShardBytes ?? 5e9);
  const weightMap = new Map<string, string>();
  const files = shards.map((shard, i) => {
    const file = `model-${String(i + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`;
    for (const { name } of shard) weightMap.set(name, file);
    return { path: join(folder, file), chunks: fileChunks(shard, options.metadata) };
  });
  const totalSize = planned.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const index = new TextEncoder().encode(formatSafetensorsIndex(weightMap, totalSize));
  await writeAll([...files, { path: join(folder, INDEX_FILE), chunks: [index] }], options.signal);
}

type Chunks = Iterable<Uint8Array | Promise<Uint8Array>>;

// the header is made at once, so that bad metadata is refused before any file is
function fileChunks(planned: readonly PlannedTensor<TensorInput<StreamedData>>[], metadata: unknown): Chunks {
  const header = encodeHeader(planned, metadata);
  for (const tensor of planned) if (typeof tensor.input.data !== 'function') checkData(tensor, tensor.input.data);
  return (function* () {
    yield header;
    for (const tensor of planned) {
      const { data } = tensor.input;
      yield typeof data === 'function' ? Promise.resolve(data()).then((made) => encodeTensor(tensor, made)) : encodeTensor(tensor, data);
    }
  })();
}

async function writeAll(
  files: readonly { readonly path: string; readonly chunks: Chunks }[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const staged: { path: string; temporary: string }[] = [];
  try {
    for (const { path, chunks } of files) {
      const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
      const handle = await onDisk(path, open(temporary, 'wx'));
      staged.push({ path, temporary });
      try {
        for (const chunk of chunks) await writeChunk(handle, await chunk, path, signal);
        await onDisk(path, handle.sync());
      } finally {
        await handle.close();
      }
    }
    for (const { path, temporary } of staged) await onDisk(path, rename(temporary, path));
  } catch (error) {
    await Promise.all(staged.map(({ temporary }) => rm(temporary, { force: true })));
    throw error;
  }
  for (const folder of new Set(files.map(({ path }) => dirname(path)))) await syncFolder(folder);
}

async function writeChunk(handle: FileHandle, bytes: Uint8Array, path: string, signal: AbortSignal | undefined): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    signal?.throwIfAborted();
    const size = Math.min(CHUNK_BYTES, bytes.byteLength - done);
    const { bytesWritten } = await onDisk(path, handle.write(bytes, done, size));
    done += bytesWritten;
  }
}

// makes the rename itself outlive a power cut; some systems cannot sync a folder
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch {
    // the file is whole either way
  }
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'Check the path, and that its folder exists.',
  ENOSPC: 'Free space on the disk and write again; an older file is as it was.',
  EDQUOT: 'Free space in the quota and write again; an older file is as it was.',
  EACCES: 'Check the permissions of the file and its folder.',
  EPERM: 'Check the permissions of the file and its folder.',
  EISDIR: 'Give the path of a file, not of a folder.',
};

async function onDisk<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const { code = 'unknown', message } = cause as NodeJS.ErrnoException;
    const remedy = REMEDIES[code] ?? 'See the cause.';
    return fail({ mechanism, argument: path, wanted: 'a file that the system can read or write', given: message, remedy, cause });
  }
}
