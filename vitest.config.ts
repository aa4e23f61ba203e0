import { globSync, readFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig, type TestProjectConfiguration } from 'vitest/config';
import { softwareVulkan } from './tools/chromium.ts';
import { TotalsReporter } from './tools/totals-reporter.ts';

// workspace packages are tested on their sources: the condition points every @seqloom/* import at src/
const conditions = ['@seqloom/source', 'node', 'import', 'default'];
const roots = ['packages/*/src', 'tools', 'bench', 'examples'];
const files = (suffix: string): string[] => roots.map((root) => `${root}/**/*${suffix}`);
const special = [...files('.heavy.test.ts'), ...files('.webgpu.test.ts'), ...files('.browser.test.ts')];
const vulkan = softwareVulkan();
// tests that declare their suite once per backend, the laws among them, run a second time where there is a GPU;
// tests of the laws themselves need none
const perBackend = (): string[] =>
  globSync('packages/*/src/**/*.test.ts').filter(
    (file) =>
      /\b(eachBackend|mixerLaws|opLaws|goldenSuite)\(/.test(readFileSync(file, 'utf8')) &&
      (!file.startsWith('packages/testing/') || file.endsWith('.laws.test.ts')),
  );

/** A tier is named by what its tests need; only `unit` runs without a word. */
function tier(name: string, include: string[], test: object = {}): TestProjectConfiguration {
  return {
    resolve: { conditions },
    ssr: { resolve: { conditions } },
    test: { name, pool: 'forks', include, exclude: ['**/node_modules/**', '**/dist/**'], ...test },
  };
}

const tiers: Record<string, TestProjectConfiguration> = {
  // nothing but Node; vitest alone would leave one core to itself, which is half of a small machine
  unit: tier('unit', files('.test.ts'), {
    testTimeout: 60_000,
    maxWorkers: availableParallelism(),
    exclude: ['**/node_modules/**', '**/dist/**', ...special],
  }),
  // minutes of time, child processes, or packed tarballs
  heavy: tier('heavy', files('.heavy.test.ts'), { testTimeout: 600_000, hookTimeout: 600_000, fileParallelism: false }),
  // a WebGPU adapter through Dawn: the laws of every mechanism again, and what only a GPU can show
  webgpu: tier('webgpu', [...files('.webgpu.test.ts'), ...perBackend()], {
    testTimeout: 300_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    env: {
      SEQLOOM_WEBGPU: process.env.SEQLOOM_WEBGPU ?? 'only',
      // a tuning that was measured on this machine must not decide which shaders are tested
      XDG_CACHE_HOME: join(tmpdir(), 'seqloom-no-cache'),
      ...(vulkan ? { VK_ICD_FILENAMES: vulkan } : {}),
    },
  }),
  // a real Chromium
  browser: tier('browser', files('.browser.test.ts'), { testTimeout: 300_000, hookTimeout: 300_000, fileParallelism: false }),
};

// `vitest run` is the unit tier, `vitest run --mode webgpu` another one
export default defineConfig(({ mode }) => {
  // other tools load this file in their own mode
  const name = ['test', 'development', 'production'].includes(mode) ? 'unit' : mode;
  const project = tiers[name];
  if (!project) throw new Error(`There is no test tier called ${name}: use one of ${Object.keys(tiers).join(', ')}.`);
  return { test: { projects: [project], reporters: ['default', new TotalsReporter(name)] } };
});
