// vitest's test functions ask for the state of the worker they run in: here a page is the worker
const listeners: unknown[] = [];

/** What vitest's runner reads of its configuration. */
export const config = {
  root: '/',
  name: 'browser',
  setupFiles: [],
  testTimeout: 300_000,
  hookTimeout: 120_000,
  passWithNoTests: false,
  maxConcurrency: 1,
  tags: [],
  strictTags: false,
  retry: 0,
  repeats: 0,
  includeTaskLocation: false,
  taskTitleValueFormatTruncate: 40,
  allowOnly: false,
  sequence: { shuffle: false, concurrent: false, seed: 1, hooks: 'stack', setupFiles: 'list' },
  expect: {},
  snapshotOptions: { updateSnapshot: 'none', expand: false },
  experimental: {},
};

Object.assign(globalThis, {
  __vitest_worker__: {
    config,
    ctx: { pool: 'browser' },
    environment: { name: 'browser' },
    onCleanup: (listener: unknown) => listeners.push(listener),
  },
});
