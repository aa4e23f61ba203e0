import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fail } from '@seqloom/core';
import { fileSource } from '@seqloom/core/node';
import type { Repository } from './repository.ts';

/** A folder on disk as a repository. */
export function folderRepository(folder: string, label = folder, commit: string | null = null): Repository {
  const there = (file: string): Promise<boolean> =>
    stat(join(folder, file)).then(
      () => true,
      () => false,
    );
  return {
    label,
    commit,
    async text(file) {
      if (!isPlainName(file)) {
        const remedy = 'Files of a checkpoint lie beside its config.json.';
        fail({ mechanism: 'checkpoint', argument: 'file', wanted: 'a plain file name', given: JSON.stringify(file), remedy });
      }
      return (await there(file)) ? readFile(join(folder, file), 'utf8') : null;
    },
    open: async (file) => ((await there(file)) ? fileSource(join(folder, file)) : null),
  };
}

function isPlainName(file: string): boolean {
  return file !== '' && !file.startsWith('..') && !/[\\/]/.test(file);
}
