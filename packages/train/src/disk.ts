import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fail } from '@seqloom/core';

const REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'Free space on the disk and go on: what was written before is as it was.',
  EDQUOT: 'Free space in the quota and go on: what was written before is as it was.',
  EACCES: 'Check the permissions.',
  EPERM: 'Check the permissions.',
  EROFS: 'Choose a place that can be written.',
  ENOTDIR: 'Choose another place: a file is where a folder is needed.',
  EEXIST: 'Choose another place: a file is where a folder is needed.',
  EISDIR: 'Choose another place: a folder is where a file is needed.',
};

/**
 * Awaits work on a disk and turns the system's errors into one clear one; others pass.
 *
 * @param mechanism who writes
 * @param path what is written
 */
export async function onDisk<T>(mechanism: string, path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    const { code, syscall, message } = cause as NodeJS.ErrnoException;
    if (code === undefined || syscall === undefined) throw cause;
    return fail({ mechanism, argument: path, wanted: 'writable', given: message, remedy: REMEDIES[code] ?? 'See the cause.', cause });
  }
}

/** Writes a new file and waits until it is on the disk. */
export async function writeSynced(path: string, content: string | Uint8Array): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Replaces a file as a whole: a new one is written beside it, synced, and takes the name; a failure leaves the old one. */
export async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await writeSynced(temporary, content);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Makes renames in a folder outlive a power cut; some systems cannot sync a folder. */
export async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (!['EPERM', 'EISDIR', 'EINVAL', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
