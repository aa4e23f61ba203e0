import type { FileHandle } from 'node:fs/promises';
import { readBytes } from './text-file.ts';

const BLOCK = 65_536;

/**
 * Reads a part of a UTF-8 file as pieces of text that end where a word does, so that a tokeniser sees no half word.
 *
 * A piece starts with the white space before its first word, as tokenisers join the two; only a word of more than 64 KiB is cut.
 *
 * @param from first byte
 * @param to byte behind the last
 */
export async function* textChunks(handle: FileHandle, path: string, from: number, to: number): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let held = '';
  for (let at = from; at < to; at += BLOCK) {
    const last = at + BLOCK >= to;
    held += decoder.decode(await readBytes(handle, at, Math.min(BLOCK, to - at), path), { stream: !last });
    const cut = last ? held.length : wordEnd(held);
    if (cut > 0) yield held.slice(0, cut);
    held = held.slice(cut);
  }
}

/** Place of the last white space that follows a word, 0 when there is none in a text that may still grow. */
function wordEnd(text: string): number {
  for (let i = text.length - 1; i > 0; i--) if (/\s/.test(text[i]!) && !/\s/.test(text[i - 1]!)) return i;
  return text.length < BLOCK ? 0 : text.length;
}
