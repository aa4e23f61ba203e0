import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { fail } from '@seqloom/core';
import { breathe } from '../breathe.ts';
import { onDisk } from '../disk.ts';
import type { Tokeniser } from './byte-tokeniser.ts';
import { fingerprint } from './fingerprint.ts';
import { textChunks } from './text-chunks.ts';
import { openTextFile, readBytes } from './text-file.ts';
import type { TextFile } from './text-file.ts';
import { splitPoint } from './token-store.ts';
import type { TokenStore } from './token-store.ts';

/** Options of `openTokenFile`. */
export interface TokenFileOptions {
  readonly tokeniser: Tokeniser;
  /** folder for the tokens; a second call with the same text and tokeniser reads them from there */
  readonly cache: string;
  /** share at the end of the text that is held out, default 0.05 */
  readonly heldOut?: number;
}

/** First bytes of a cache: what is needed beside the tokens, as JSON with spaces behind it. */
const HEADER = 512;

interface Header {
  readonly seqloomTokens: 1;
  readonly count: number;
  readonly trainCount: number;
  readonly trainBytes: number;
  readonly heldOutBytes: number;
  readonly bytesPerId: 2 | 4;
  readonly fingerprint: string;
}

/**
 * A text file as a store of a tokeniser's tokens: tokenised once, as a stream, into a binary file that is then read by offset.
 *
 * Text and tokens are never whole in memory. The cache is written under a temporary name and renamed when it is complete.
 *
 * @throws SeqLoomError when the text is missing, empty or binary, or the cache cannot be written
 */
export async function openTokenFile(path: string, options: TokenFileOptions): Promise<TokenStore> {
  const { tokeniser, cache, heldOut = 0.05 } = options;
  const text = await openTextFile(path);
  try {
    const train = await characterStart(text, splitPoint(text.size, heldOut));
    const own = tokeniser.fingerprint ?? `${tokeniser.vocabSize}:${tokeniser.encode('A probe: 1234, äöü.').join(',')}`;
    const identity = await fingerprint(`${text.size}:${train}:${await fingerprint(text.sample)}:${own}`);
    // samples do not see every edit, the time of change does
    const key = await fingerprint(`${identity}:${(await text.handle.stat()).mtimeMs}`);
    const file = join(cache, `${key}.tokens`);
    await onDisk('data', file, mkdir(cache, { recursive: true }));
    const there = await stat(file).then(
      () => true,
      () => false,
    );
    if (!there) await build(file, text, train, tokeniser, identity);
    return await openCache(file, tokeniser.vocabSize, identity);
  } finally {
    await text.handle.close();
  }
}

async function build(file: string, text: TextFile, train: number, tokeniser: Tokeniser, identity: string): Promise<void> {
  const bytesPerId = tokeniser.vocabSize <= 65_536 ? 2 : 4;
  const temporary = `${file}.${randomUUID()}.tmp`;
  const handle = await onDisk('data', file, open(temporary, 'wx'));
  try {
    let at = HEADER;
    const counts: number[] = [];
    for (const [from, to] of [
      [0, train],
      [train, text.size],
    ] as const) {
      let count = 0;
      for await (const chunk of textChunks(text.handle, text.path, from, to)) {
        const ids = tokeniser.encode(chunk);
        const packed = bytesPerId === 2 ? Uint16Array.from(ids) : Uint32Array.from(ids);
        await onDisk('data', file, writeAll(handle, new Uint8Array(packed.buffer), at));
        at += packed.byteLength;
        count += ids.length;
        await breathe();
      }
      counts.push(count);
    }
    const header: Header = {
      seqloomTokens: 1,
      count: counts[0]! + counts[1]!,
      trainCount: counts[0]!,
      trainBytes: train,
      heldOutBytes: text.size - train,
      bytesPerId,
      fingerprint: identity,
    };
    await onDisk('data', file, writeAll(handle, new TextEncoder().encode(JSON.stringify(header).padEnd(HEADER)), 0));
    await onDisk('data', file, handle.sync());
    await handle.close();
    await onDisk('data', file, rename(temporary, file));
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
}

async function openCache(file: string, vocabSize: number, identity: string): Promise<TokenStore> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const header = readHeader(size < HEADER ? '' : new TextDecoder().decode(await readBytes(handle, 0, HEADER, file)));
    if (header?.fingerprint !== identity || size !== HEADER + header.count * header.bytesPerId) {
      fail({ mechanism: 'data', argument: file, wanted: 'a whole cache of tokens', given: 'another file', remedy: 'Remove it.' });
    }
    const { count, trainCount, trainBytes, heldOutBytes, bytesPerId } = header;
    return {
      vocabSize,
      count,
      trainCount,
      trainBytes,
      heldOutBytes,
      fingerprint: identity,
      async read(from, length) {
        const { buffer } = await readBytes(handle, HEADER + from * bytesPerId, length * bytesPerId, file);
        return Int32Array.from(bytesPerId === 2 ? new Uint16Array(buffer) : new Uint32Array(buffer));
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function readHeader(text: string): Header | null {
  try {
    return JSON.parse(text) as Header;
  } catch {
    return null;
  }
}

/** The first byte at or before `at` that starts a character. */
async function characterStart(text: TextFile, at: number): Promise<number> {
  const from = Math.max(0, at - 3);
  const bytes = await readBytes(text.handle, from, Math.min(at + 1, text.size) - from, text.path);
  let place = at;
  while (place > from && (bytes[place - from]! & 0xc0) === 0x80) place--;
  return place;
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
}
