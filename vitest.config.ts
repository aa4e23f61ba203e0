import { defineConfig } from 'vitest/config';

// workspace packages are tested on their sources: the condition points every @seqloom/* import at src/
const source = { resolve: { conditions: ['@seqloom/source', 'node', 'import', 'default'] }, ssr: { resolve: { conditions: ['@seqloom/source', 'node', 'import', 'default'] } } };

export default defineConfig({
  ...source,
  test: {
    pool: 'forks',
    testTimeout: 60_000,
    include: ['packages/*/src/**/*.test.ts', 'tools/**/*.test.ts'],
  },
});
