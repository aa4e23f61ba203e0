import { cpSync, globSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import type { Plugin } from 'vite';
import { root } from '../../workspace.ts';

/** Puts the golden vectors of the mechanisms beside a bundle, at the addresses that they have in the repository, and a list of them. */
export function copyGoldenFiles(folder: string): void {
  const listed: Record<string, Record<string, number>> = {};
  for (const file of globSync('packages/*/golden/*/*/*.safetensors', { cwd: root })) {
    cpSync(join(root, file), join(folder, file));
    (listed[`/${dirname(file)}/`] ??= {})[basename(file)] = statSync(join(root, file)).size;
  }
  writeFileSync(join(folder, 'golden.json'), JSON.stringify(listed));
}

/** Lets a bundled test file find its golden vectors: its `import.meta.url` is its place in the repository, on the page's server. */
export const addresses: Plugin = {
  name: 'addresses',
  enforce: 'pre',
  transform: {
    filter: { id: /\.test\.ts$/ },
    handler: (code, id) => ({
      code: code.replaceAll('import.meta.url', `new URL('/${relative(root, id)}', location.origin).href`),
      // a package without import-time effects would lose its tests, which are nothing else
      moduleSideEffects: true,
    }),
  },
};
