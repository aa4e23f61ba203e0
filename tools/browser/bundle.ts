import { cpSync, globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { build, preview } from 'vite';
import type { Plugin } from 'vite';
import { chromiumPath } from '../chromium.ts';
import { root } from '../workspace.ts';

/** A production bundle on disk. */
export interface Bundle {
  /** folder of the built files */
  readonly folder: string;
  /** serves the bundle on a free port; `isolated` sends the headers that give a page shared memory */
  serve(isolated?: boolean): Promise<{ readonly address: string; close(): Promise<void> }>;
  remove(): void;
}

/** Bundles a page of `tools/browser` with Vite, tfjs-wasm's binaries beside it in `wasm/`. */
export async function bundle(page: string, minify = true, plugins: Plugin[] = []): Promise<Bundle> {
  const folder = mkdtempSync(join(tmpdir(), 'seqloom-browser-'));
  const shared = { root: join(root, 'tools/browser', page), configFile: false, logLevel: 'warn' } as const;
  await build({
    ...shared,
    plugins,
    resolve: { conditions: ['@seqloom/source', 'module', 'browser', 'import', 'default'] },
    build: { outDir: folder, emptyOutDir: true, target: 'es2023', minify },
  });
  for (const file of globSync('node_modules/@tensorflow/tfjs-backend-wasm/dist/*.wasm', { cwd: root })) {
    cpSync(join(root, file), join(folder, 'wasm', file.split('/').at(-1)!));
  }
  const isolation = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
  return {
    folder,
    serve: async (isolated = false) => {
      const server = await preview({
        ...shared,
        build: { outDir: folder },
        preview: { host: '127.0.0.1', port: 0, headers: isolated ? isolation : {} },
      });
      const address = server.resolvedUrls?.local[0];
      if (!address) throw new Error('vite preview gave no address');
      return { address, close: () => server.close() };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Starts the installed Chromium. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath(),
    // the last two let a machine without a GPU answer WebGPU in software
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'],
  });
}
