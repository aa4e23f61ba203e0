import { fail } from '../error.ts';
import { isCount, quote } from './dtype.ts';
import type { TensorInfo } from './header.ts';
import { checkName } from './header.ts';
import type { TensorReader } from './reader.ts';
import { findTensor, openSafetensorsSource } from './reader.ts';
import type { ByteSource } from './source.ts';
import { isObject, parseJsonObject } from './strict-json.ts';

/** The usual name of the index of a sharded set. */
export const INDEX_FILE = 'model.safetensors.index.json';

/** The index of a sharded set: which file holds which tensor. */
export interface SafetensorsIndex {
  /** whatever the index says of the set, such as `total_size` in bytes */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** tensor name to the plain name of a file beside the index */
  readonly weightMap: ReadonlyMap<string, string>;
}

const mechanism = 'safetensors';
const DAMAGED = 'The index is damaged or hostile: fetch or write it again.';

/**
 * Parses and checks a `model.safetensors.index.json`.
 *
 * @param json the file's bytes or text
 * @throws {SeqLoomError} when it is no such index, or a shard's name could lead out of the folder
 */
export function parseSafetensorsIndex(json: Uint8Array | string, label = 'index'): SafetensorsIndex {
  const index = parseJsonObject(typeof json === 'string' ? new TextEncoder().encode(json) : json, label, DAMAGED);
  const map = Object.hasOwn(index, 'weight_map') ? index['weight_map'] : undefined;
  const metadata = Object.hasOwn(index, 'metadata') ? index['metadata'] : {};
  if (!isObject(map))
    fail({ mechanism, argument: `${label} weight_map`, wanted: 'an object of file names', given: quote(map), remedy: DAMAGED });
  if (!isObject(metadata)) fail({ mechanism, argument: `${label} metadata`, wanted: 'an object', given: quote(metadata), remedy: DAMAGED });
  const weightMap = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    checkName(name, label, DAMAGED);
    if (!isShardName(file)) {
      const wanted = "a plain '*.safetensors' file name without a folder";
      fail({ mechanism, argument: `${label} weight_map ${quote(name)}`, wanted, given: quote(file), remedy: DAMAGED });
    }
    weightMap.set(name, file);
  }
  return { metadata, weightMap };
}

/**
 * The text of an index, names sorted.
 *
 * @param weightMap tensor name to shard file name
 * @param totalSize bytes of all tensors
 */
export function formatSafetensorsIndex(weightMap: ReadonlyMap<string, string>, totalSize: number): string {
  const lines = [...weightMap.keys()].sort().map((name) => `    ${JSON.stringify(name)}: ${JSON.stringify(weightMap.get(name))}`);
  return `{\n  "metadata": {\n    "total_size": ${totalSize}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`;
}

/**
 * Opens a sharded set as one reader: every shard's header is read and checked against the index, tensors are read on demand.
 *
 * @param openShard gives the source of a shard by its plain file name, such as `(file) => httpSource(new URL(encodeURIComponent(file), base))`
 * @throws {SeqLoomError} naming every shard that cannot be opened, or the first tensor that is not where the index says
 */
export async function openShardedSafetensors(
  index: SafetensorsIndex,
  openShard: (file: string) => Promise<ByteSource>,
): Promise<TensorReader> {
  const files = [...new Set(index.weightMap.values())].sort();
  const shards = new Map<string, TensorReader>();
  const close = async (): Promise<void> => {
    await Promise.all([...shards.values()].map((shard) => shard.close()));
  };
  const opened = await Promise.allSettled(files.map(async (file) => openShard(file)));
  const sources = opened.map((result) => (result.status === 'fulfilled' ? result.value : undefined));
  try {
    const missing = files.filter((_, i) => sources[i] === undefined);
    if (missing.length > 0) {
      const cause = new AggregateError(opened.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : [])));
      const remedy = 'Fetch the missing shards into the folder of the index.';
      fail({ mechanism, argument: 'shards', wanted: `all ${files.length} readable`, given: `no ${missing.join(', ')}`, remedy, cause });
    }
    for (const [i, file] of files.entries()) {
      // the reader closes its source from here on
      const source = sources[i]!;
      sources[i] = undefined;
      shards.set(file, await openSafetensorsSource(source));
    }
    return joinShards(index, shards, close);
  } catch (error) {
    await Promise.all([close(), ...sources.map((source) => source?.close?.())]);
    throw error;
  }
}

/**
 * Splits tensors, in the order given, into shards of at most `maxShardBytes` bytes of tensor data; a larger tensor has a shard of its own.
 *
 * @throws {SeqLoomError} when `maxShardBytes` is not a whole number from 1
 */
export function splitShards<T extends { readonly byteLength: number }>(tensors: readonly T[], maxShardBytes: number): T[][] {
  if (!isCount(maxShardBytes) || maxShardBytes === 0) {
    const wanted = 'a whole number of bytes from 1';
    fail({ mechanism, argument: 'maxShardBytes', wanted, given: quote(maxShardBytes), remedy: 'Leave it out for 5e9.' });
  }
  const shards: T[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    if (shards.length === 0 || tensor.byteLength > room) {
      shards.push([]);
      room = maxShardBytes;
    }
    shards.at(-1)!.push(tensor);
    room -= tensor.byteLength;
  }
  return shards;
}

function joinShards(index: SafetensorsIndex, shards: ReadonlyMap<string, TensorReader>, close: () => Promise<void>): TensorReader {
  const tensors = new Map<string, TensorInfo>();
  const metadata = Object.create(null) as Record<string, string>;
  for (const [file, shard] of shards) {
    Object.assign(metadata, shard.metadata);
    for (const [name, info] of shard.tensors) {
      const mapped = index.weightMap.get(name);
      if (mapped !== file) {
        const given = mapped === undefined ? 'a tensor that it does not name' : `one that it places in ${mapped}`;
        const argument = `${file} tensor ${quote(name)}`;
        fail({ mechanism, argument, wanted: 'where the index places it', given, remedy: 'Fetch index and shards of the same version.' });
      }
      tensors.set(name, info);
    }
  }
  for (const [name, file] of index.weightMap) {
    if (!tensors.has(name)) {
      const remedy = 'Fetch index and shards of the same version.';
      fail({
        mechanism,
        argument: file,
        wanted: `the shard that holds ${quote(name)}, as the index says`,
        given: 'no such tensor in it',
        remedy,
      });
    }
  }
  return {
    tensors,
    metadata,
    async tensor(name) {
      findTensor(tensors, name, 'the sharded set');
      return shards.get(index.weightMap.get(name)!)!.tensor(name);
    },
    async *[Symbol.asyncIterator]() {
      for (const shard of shards.values()) yield* shard;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

// separators, drive letters and control characters could lead out of the folder on some system
function isShardName(file: unknown): file is string {
  return typeof file === 'string' && /^[^/\\:\p{Cc}\p{Surrogate}]+\.safetensors$/u.test(file);
}
