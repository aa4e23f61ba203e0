import { fail } from '../error.ts';
import { quote } from './dtype.ts';

/** Random access to bytes: what the readers need of a file, a Blob or an HTTP resource. */
export interface ByteSource {
  /** bytes in all */
  readonly size: number;
  /** what to call the source in an error, such as a path or an address */
  readonly label?: string;
  /** The bytes `[offset, offset + length)`, in an array that nobody else uses; fewer only when the source ends early. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Gives back what the source holds, such as a file handle. */
  close?(): Promise<void>;
}

/** What `httpSource` may be told. */
export interface HttpSourceOptions {
  /** request headers, such as an authorisation */
  readonly headers?: Readonly<Record<string, string>>;
  /** aborts every request of the source */
  readonly signal?: AbortSignal;
  /** stands in for the global `fetch` */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

const mechanism = 'safetensors';
const FIRST_READ_BYTES = 65_536;

/** A source over bytes in memory; reads are copies, so that a tensor never keeps the whole alive. */
export function bytesSource(bytes: Uint8Array, label = 'bytes'): ByteSource {
  return {
    size: bytes.byteLength,
    label,
    read: (offset, length) => Promise.resolve(new Uint8Array(bytes.subarray(offset, offset + length))),
  };
}

/** A source over a Blob or File, which a browser's file input or a response gives. */
export function blobSource(blob: Blob, label = 'blob'): ByteSource {
  return {
    size: blob.size,
    label,
    read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
  };
}

/**
 * A source over an HTTP address by range requests; the first 64 KiB come with the request that asks for the size.
 *
 * @throws {SeqLoomError} when the server does not answer with the range asked for, or the resource changes between requests
 */
export async function httpSource(url: string | URL, options: HttpSourceOptions = {}): Promise<ByteSource> {
  const label = String(url);
  const request = options.fetch ?? ((address: string, init: RequestInit) => fetch(address, init));

  async function range(begin: number, end: number, etag?: string): Promise<{ bytes: Uint8Array; size: number; etag: string | null }> {
    const headers: Record<string, string> = { ...options.headers, Range: `bytes=${begin}-${end - 1}` };
    if (etag !== undefined) headers['If-Range'] = etag;
    const init: RequestInit = options.signal === undefined ? { headers } : { headers, signal: options.signal };
    const response = await request(label, init);
    const given = response.headers.get('content-range');
    const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(given ?? '');
    const size = Number(match?.[3]);
    const last = Math.min(end, size) - 1;
    if (response.status !== 206 || Number(match?.[1]) !== begin || Number(match?.[2]) !== last) {
      await response.body?.cancel();
      fail({
        mechanism,
        argument: label,
        wanted: `answered with status 206 and bytes ${begin}-${end - 1}`,
        given: `status ${response.status}, content-range ${quote(given)}`,
        remedy: 'Check the address; where the server has no byte ranges, fetch the whole file and use readSafetensors.',
      });
    }
    return { bytes: new Uint8Array(await response.arrayBuffer()), size, etag: response.headers.get('etag') };
  }

  const first = await range(0, FIRST_READ_BYTES);
  // only a strong tag may guard a range
  const etag = first.etag?.startsWith('"') ? first.etag : undefined;
  return {
    size: first.size,
    label,
    async read(offset, length) {
      if (offset + length <= first.bytes.byteLength) return first.bytes.slice(offset, offset + length);
      if (length === 0) return new Uint8Array(0);
      const { bytes, size } = await range(offset, offset + length, etag);
      if (size !== first.size) {
        const remedy = 'The file changed meanwhile: open it again.';
        fail({ mechanism, argument: label, wanted: `${first.size} bytes long, as at the first request`, given: `${size} bytes`, remedy });
      }
      return bytes;
    },
  };
}

/**
 * Reads a whole range of a source, and closes nothing.
 *
 * @throws {SeqLoomError} when the source ends early or gives too much
 */
export async function readExactly(source: ByteSource, offset: number, length: number): Promise<Uint8Array> {
  const bytes = await source.read(offset, length);
  if (bytes.byteLength !== length) {
    fail({
      mechanism,
      argument: source.label ?? 'source',
      wanted: `able to give ${length} bytes at byte ${offset}`,
      given: `${bytes.byteLength} bytes`,
      remedy: 'The file is truncated or changed while it was read: fetch it again.',
    });
  }
  return bytes;
}
