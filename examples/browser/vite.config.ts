import { defineConfig } from 'vite';

// on the packages' sources, as everything in this repository runs; a project of your own needs no config
export default defineConfig({
  base: './',
  resolve: { conditions: ['@seqloom/source', 'module', 'browser', 'import', 'default'] },
  build: { target: 'es2023', outDir: '../../runs/browser', emptyOutDir: true },
});
