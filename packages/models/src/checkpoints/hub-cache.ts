import { createHash, randomUUID } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { copyFile, mkdir, open, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fail, INDEX_FILE, parseSafetensorsIndex } from '@seqloom/core';
import { hubFailure } from './hub-errors.ts';
import { HUB_URL, isModelId, openHubModel } from './hub.ts';
import type { HubFile, HubModel, HubOptions } from './hub.ts';
import { COMPANION_FILES } from './repository.ts';
import type { PretrainedProgress } from './repository.ts';

/** Where a model's files are kept, and whether the network may be used. */
export interface CacheOptions extends HubOptions {
  /** folder of the cache, default the one that the Python libraries use too */
  readonly cache?: string;
  /** use what is in the cache and nothing else */
  readonly offline?: boolean;
  readonly onProgress?: (progress: PretrainedProgress) => void;
}

/** A model's files of one commit, on disk. */
export interface Snapshot {
  readonly folder: string;
  readonly commit: string;
}

const COMMIT = /^[0-9a-f]{40}$/;
const WEIGHTS = 'model.safetensors';

/**
 * The folder of a model's files, fetched into the cache as far as they are not there.
 *
 * The cache is laid out as the Python libraries lay theirs out (`blobs`, `refs`, `snapshots`), so that both share what is downloaded. A file
 * takes its name when it is whole and its size and hash are right; what an interruption left of it is kept, and the next call asks for
 * the rest alone. A commit that is complete in the cache needs no network.
 *
 * @throws SeqLoomError when the model cannot be reached or read, a hash is wrong, or (offline) a file is not in the cache
 */
export async function fetchSnapshot(id: string, options: CacheOptions = {}): Promise<Snapshot> {
  const { revision = 'main', offline = false } = options;
  const cache = options.cache ?? (await defaultCache());
  const home = join(cache, `models--${id.replaceAll('/', '--')}`);
  if (offline || COMMIT.test(revision)) {
    const cached = isModelId(id) ? await cachedSnapshot(home, revision) : null;
    if (cached && cached.missing.length === 0) return cached;
    if (offline) {
      const given = cached ? `a cache that lacks ${cached.missing.join(', ')} of it` : `nothing of it in ${cache}`;
      const remedy = 'Load it once with offline: false.';
      const what = `${JSON.stringify(id)} at revision ${JSON.stringify(revision)}`;
      return fail({ mechanism: 'checkpoint', argument: what, wanted: 'in the cache, since offline is true', given, remedy });
    }
  }
  const model = await openHubModel(id, options);
  const folder = join(home, 'snapshots', model.commit);
  const progress = new DownloadProgress(options.onProgress);
  const download = (file: HubFile): Promise<void> => ensureFile(model, file, home, folder, progress, options);
  const has = (path: string): boolean => model.files.has(path);
  // the small ones first: a snapshot whose weights are whole is whole
  const small = ['config.json', ...COMPANION_FILES, ...(has(INDEX_FILE) ? [INDEX_FILE] : [])]
    .filter(has)
    .map((path) => model.files.get(path)!);
  progress.expect(small);
  for (const file of small) await download(file);
  const shards = has(INDEX_FILE) ? await shardNames(join(folder, INDEX_FILE)) : [WEIGHTS].filter(has);
  const weights = shards.map((path) => model.files.get(path) ?? missingShard(id, path));
  progress.expect(weights);
  for (const file of weights) await download(file);
  if (!COMMIT.test(revision)) await writeReference(home, revision, model.commit);
  return { folder, commit: model.commit };
}

async function defaultCache(): Promise<string> {
  const { getHFHubCachePath } = await import('@huggingface/hub');
  return getHFHubCachePath();
}

async function cachedSnapshot(home: string, revision: string): Promise<(Snapshot & { readonly missing: readonly string[] }) | null> {
  const reference = join(home, 'refs', revision);
  const inside = !relative(join(home, 'refs'), reference).startsWith('..');
  const commit = COMMIT.test(revision) ? revision : inside ? await readFile(reference, 'utf8').catch(() => null) : null;
  if (commit === null || !COMMIT.test(commit.trim())) return null;
  const folder = join(home, 'snapshots', commit.trim());
  if ((await sizeOf(folder)) === null) return null;
  const index = (await sizeOf(join(folder, INDEX_FILE))) !== null;
  const needed = ['config.json', ...(index ? await shardNames(join(folder, INDEX_FILE)) : [WEIGHTS])];
  const sizes = await Promise.all(needed.map((file) => sizeOf(join(folder, file))));
  return { folder, commit: commit.trim(), missing: needed.filter((_, at) => sizes[at] === null) };
}

async function shardNames(index: string): Promise<string[]> {
  return [...new Set(parseSafetensorsIndex(await readFile(index), index).weightMap.values())].toSorted();
}

function missingShard(id: string, path: string): never {
  const remedy = 'The upload of the model is incomplete: name another revision.';
  return fail({
    mechanism: 'checkpoint',
    argument: `${id} ${path}`,
    wanted: 'there, since the index names it',
    given: 'no such file',
    remedy,
  });
}

/** Makes sure that a file of the snapshot is there and whole. */
async function ensureFile(
  model: HubModel,
  file: HubFile,
  home: string,
  folder: string,
  progress: DownloadProgress,
  options: CacheOptions,
): Promise<void> {
  const place = join(folder, file.path);
  if ((await sizeOf(place)) === file.size) return progress.add(file.path, file.size);
  const blob = join(home, 'blobs', file.sha256 ?? file.gitHash ?? `${model.commit}-${file.path}`);
  await mkdir(dirname(blob), { recursive: true });
  await mkdir(dirname(place), { recursive: true });
  if ((await sizeOf(blob)) === file.size) progress.add(file.path, file.size);
  else {
    await download(model, file, blob, progress, options).catch(async (error: unknown) => {
      // another process that fetched the same file may have been faster
      if (options.signal?.aborted || (await sizeOf(blob)) !== file.size) throw error;
    });
  }
  // made aside and moved, so that who loads the same model at this moment never finds the place empty
  const aside = `${place}.${randomUUID()}.part`;
  try {
    // some systems allow links to administrators alone
    await symlink(relative(dirname(place), blob), aside).catch(() => copyFile(blob, aside));
    await rename(aside, place);
  } finally {
    await rm(aside, { force: true });
  }
}

/** Downloads what is missing of a file, checks the whole, and gives it its name. */
async function download(model: HubModel, file: HubFile, blob: string, progress: DownloadProgress, options: CacheOptions): Promise<void> {
  const { signal } = options;
  const partial = `${blob}.incomplete`;
  let have = (await sizeOf(partial)) ?? 0;
  if (have > file.size) {
    await rm(partial);
    have = 0;
  }
  const hash = startHash(file);
  if (have > 0) for await (const chunk of createReadStream(partial, { end: have - 1 })) hash?.update(chunk as Uint8Array);
  progress.add(file.path, have);
  if (have < file.size) {
    const remote = (await model.blob(file.path))!;
    // every byte at its own place, so that two processes that fetch the same file write the same
    const handle = await open(partial, constants.O_RDWR | constants.O_CREAT);
    let place = have;
    try {
      await streamInto(remote.slice(have, file.size), file.size - have, async (chunk) => {
        signal?.throwIfAborted();
        for (let done = 0; done < chunk.byteLength;)
          done += (await handle.write(chunk, done, chunk.byteLength - done, place + done)).bytesWritten;
        place += chunk.byteLength;
        hash?.update(chunk);
        progress.add(file.path, chunk.byteLength);
      });
      await handle.sync();
    } catch (error) {
      const { revision = 'main', hubUrl = HUB_URL, accessToken } = options;
      hubFailure(error, { id: model.id, revision, hubUrl, code: null, withToken: accessToken !== undefined, file: file.path }, signal);
    } finally {
      await handle.close();
    }
  }
  const wanted = file.sha256 ?? file.gitHash;
  const size = await sizeOf(partial);
  const found = hash?.digest('hex');
  if (size !== file.size || (wanted !== null && found !== wanted)) {
    await rm(partial, { force: true });
    fail({
      mechanism: 'checkpoint',
      argument: `${model.id} ${file.path}`,
      wanted: `${file.size} bytes with the hash ${wanted ?? 'of no kind'}`,
      given: `${size} bytes with the hash ${found ?? 'of no kind'}`,
      remedy: 'The download was damaged and is removed: call again.',
    });
  }
  await rename(partial, blob);
}

async function streamInto(blob: Blob, size: number, take: (chunk: Uint8Array) => Promise<void>): Promise<void> {
  const reader = blob.stream().getReader();
  let done = 0;
  try {
    for (;;) {
      const { value, done: ended } = await reader.read();
      if (ended) break;
      done += value.byteLength;
      if (done > size) throw new TypeError(`${size} bytes are wanted; more came`);
      await take(value);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
  if (done < size) throw new TypeError(`the connection ended after ${done} of ${size} bytes`);
}

/** The hash that a hub names a file by: SHA-256, or git's SHA-1 over a header and the content. */
function startHash(file: HubFile): Hash | null {
  if (file.sha256 !== null) return createHash('sha256');
  return file.gitHash === null ? null : createHash('sha1').update(`blob ${file.size}\0`);
}

async function writeReference(home: string, revision: string, commit: string): Promise<void> {
  const reference = join(home, 'refs', revision);
  if (relative(join(home, 'refs'), reference).startsWith('..')) return;
  await mkdir(dirname(reference), { recursive: true });
  await writeFile(reference, commit);
}

async function sizeOf(path: string): Promise<number | null> {
  return stat(path).then(
    ({ size }) => size,
    () => null,
  );
}

/** Bytes over all files of a model; its total grows when the shards become known. */
class DownloadProgress {
  readonly #report: ((progress: PretrainedProgress) => void) | undefined;
  #done = 0;
  #total = 0;

  constructor(report: ((progress: PretrainedProgress) => void) | undefined) {
    this.#report = report;
  }

  expect(files: readonly HubFile[]): void {
    for (const { size } of files) this.#total += size;
  }

  add(name: string, bytes: number): void {
    this.#done += bytes;
    this.#report?.({ phase: 'download', name, done: this.#done, total: this.#total });
  }
}
