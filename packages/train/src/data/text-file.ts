import { open, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { fail } from '@seqloom/core';

const BLOCK = 65_536;
// blocks looked at in long files
const SAMPLES = 64;

/** A text file that was looked at and found to be text. */
export interface TextFile {
  readonly path: string;
  readonly size: number;
  readonly handle: FileHandle;
  /** first block, blocks in between and last block: what the fingerprint is made of */
  readonly sample: Uint8Array;
}

/**
 * Opens a text file after looking at samples of it; the file is never whole in memory.
 *
 * @returns the file; close its handle
 * @throws SeqLoomError when it is missing, not a file, empty, or holds binary data
 */
export async function openTextFile(path: string): Promise<TextFile> {
  const refuse = (given: string, remedy: string, cause?: unknown): never =>
    fail({ mechanism: 'data', argument: path, wanted: 'a text file', given, remedy, cause });
  const handle = await openRegular(path, refuse);
  try {
    const { size } = await handle.stat();
    if (size === 0) refuse('an empty file', 'Give a file with text in it.');
    const parts: Uint8Array[] = [];
    const step = Math.max(BLOCK, Math.floor(size / SAMPLES));
    for (let from = 0; from < size; from += step) parts.push(await readBytes(handle, from, Math.min(BLOCK, size - from), path));
    if (size > BLOCK) parts.push(await readBytes(handle, size - BLOCK, BLOCK, path));
    const sample = new Uint8Array(Buffer.concat(parts));
    const control = sample.reduce((count, byte) => count + (isControl(byte) ? 1 : 0), 0);
    if (sample.includes(0)) refuse('binary data (it holds zero bytes)', 'Convert it to plain text in UTF-8.');
    if (control > sample.length * 0.02) {
      const share = ((100 * control) / sample.length).toFixed(1);
      refuse(`binary data (${share}% control characters)`, 'Convert it to plain text in UTF-8.');
    }
    return { path, size, handle, sample };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Reads exactly `count` bytes from position `from` on.
 *
 * @throws SeqLoomError when the file ends before
 */
export async function readBytes(handle: FileHandle, from: number, count: number, path: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  let done = 0;
  while (done < count) {
    const { bytesRead } = await handle.read(bytes, done, count - done, from + done);
    if (bytesRead === 0) {
      fail({
        mechanism: 'data',
        argument: path,
        wanted: `at least ${from + count} bytes long`,
        given: `${from + done}: it was cut while in use`,
        remedy: 'Leave the text alone while training.',
      });
    }
    done += bytesRead;
  }
  return bytes;
}

async function openRegular(path: string, refuse: (given: string, remedy: string, cause?: unknown) => never): Promise<FileHandle> {
  try {
    // before open, which would wait for ever on a pipe
    if (!(await stat(path)).isFile()) return refuse('a folder or a device', 'Give the path of a plain text file.');
    return await open(path, 'r');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return refuse('no file there', 'Check the path.', cause);
    if (code === 'EACCES' || code === 'EPERM') return refuse('a file that may not be read', 'Check its permissions.', cause);
    throw cause;
  }
}

// tab, line feed, form feed, carriage return, backspace and escape occur in texts
function isControl(byte: number): boolean {
  return (byte < 32 && ![8, 9, 10, 11, 12, 13, 27].includes(byte)) || byte === 127;
}
