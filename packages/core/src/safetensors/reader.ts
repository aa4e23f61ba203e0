import { fail } from '../error.ts';
import type { SafeTensor } from './dtype.ts';
import { quote, viewElements } from './dtype.ts';
import type { SafetensorsHeader, TensorInfo } from './header.ts';
import { PREFIX_BYTES, headerLength, parseHeader } from './header.ts';
import type { ByteSource } from './source.ts';
import { readExactly } from './source.ts';

/** Tensors that are read one at a time, from one file or from a sharded set; iterate it for `[name, tensor]` in file order. */
export interface TensorReader extends AsyncIterable<readonly [string, SafeTensor]> {
  /** name to dtype, shape and place, in file order */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Reads one tensor into memory of its own.
   *
   * @throws {SeqLoomError} when there is no such tensor, the reader is closed, or the file ends early
   */
  tensor(name: string): Promise<SafeTensor>;
  /** Gives back the file handles; a second call does nothing. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const mechanism = 'safetensors';
const BATCH_BYTES = 8 * 2 ** 20;

/**
 * Opens a safetensors file behind any `ByteSource`: reads and checks the header, and each tensor on demand.
 *
 * Memory is that of the header and of the tensors asked for. The reader owns the source and closes it, also when opening fails.
 *
 * @throws {SeqLoomError} when the header is damaged or hostile, before any tensor is read
 */
export async function openSafetensorsSource(source: ByteSource): Promise<TensorReader> {
  const label = source.label ?? 'source';
  try {
    const prefix = await readExactly(source, 0, Math.min(PREFIX_BYTES, source.size));
    const length = headerLength(prefix, source.size, label);
    const header = parseHeader(await readExactly(source, PREFIX_BYTES, length), source.size, label);
    return sourceReader(source, header, label);
  } catch (error) {
    await source.close?.();
    throw error;
  }
}

/** The entry of a tensor, or the error that says that there is none. */
export function findTensor<T>(tensors: ReadonlyMap<string, T>, name: string, label: string): T {
  const info = tensors.get(name);
  if (info === undefined) {
    const some = [...tensors.keys()].slice(0, 5).map(quote).join(', ');
    fail({
      mechanism,
      argument: 'name',
      wanted: `one of the ${tensors.size} tensors in ${label}`,
      given: quote(name),
      remedy: tensors.size === 0 ? 'The file holds no tensors.' : `It holds ${some}${tensors.size > 5 ? ', …' : ''}.`,
    });
  }
  return info;
}

function sourceReader(source: ByteSource, header: SafetensorsHeader, label: string): TensorReader {
  let closed = false;
  const read = (offset: number, length: number): Promise<Uint8Array> => {
    if (closed)
      fail({ mechanism, argument: label, wanted: 'open', given: 'a closed reader', remedy: 'Read before close(), or open it again.' });
    return readExactly(source, offset, length);
  };
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    await source.close?.();
  };
  return {
    ...header,
    async tensor(name) {
      const { dtype, shape, offset, byteLength } = findTensor(header.tensors, name, label);
      return { dtype, shape, data: viewElements(dtype, await read(offset, byteLength)) };
    },
    async *[Symbol.asyncIterator]() {
      for (const batch of batches(header.tensors.values())) {
        const begin = batch[0].offset;
        const end = batch.at(-1)!.offset + batch.at(-1)!.byteLength;
        const bytes = await read(begin, end - begin);
        for (const { name, dtype, shape, offset, byteLength } of batch) {
          const own = bytes.subarray(offset - begin, offset - begin + byteLength);
          // a tensor that shares the batch's buffer would keep all of it alive
          yield [name, { dtype, shape, data: viewElements(dtype, own, batch.length > 1) }] as const;
        }
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

// small neighbours are read together: over HTTP a request costs more than the bytes
function* batches(infos: Iterable<TensorInfo>): Generator<TensorInfo[]> {
  let batch: TensorInfo[] = [];
  let bytes = 0;
  for (const info of infos) {
    if (batch.length > 0 && bytes + info.byteLength > BATCH_BYTES) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(info);
    bytes += info.byteLength;
  }
  if (batch.length > 0) yield batch;
}
