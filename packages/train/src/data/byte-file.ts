import { fingerprint } from './fingerprint.ts';
import { openTextFile, readBytes } from './text-file.ts';
import { splitPoint } from './token-store.ts';
import type { TokenStore } from './token-store.ts';

/**
 * A text file as a store of bytes, read by offset: memory does not grow with the file.
 *
 * @param path the file; it stays open until `close`
 * @param options share at the end that is held out, default 0.05
 * @throws SeqLoomError when the file is missing, empty or binary
 */
export async function openByteFile(path: string, options: { readonly heldOut?: number } = {}): Promise<TokenStore> {
  const { handle, size, sample } = await openTextFile(path);
  const trainCount = splitPoint(size, options.heldOut ?? 0.05);
  return {
    vocabSize: 256,
    count: size,
    trainCount,
    trainBytes: trainCount,
    heldOutBytes: size - trainCount,
    fingerprint: await fingerprint(`${size}:${trainCount}:${await fingerprint(sample)}`),
    read: async (from, count) => Int32Array.from(await readBytes(handle, from, count, path)),
    close: () => handle.close(),
  };
}
