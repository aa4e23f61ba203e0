/**
 * The floor of every package: imports only go down, and packages of one floor never import one another. `testing` stands outside: tests may use
 * it, sources may not. Read by the import test, by the nx plugin (tags) and by the generator.
 */
export const floors: Readonly<Record<string, number>> = {
  core: 1,
  'kernels-wasm': 2,
  'kernels-gpu': 2,
  attention: 3,
  'linear-attention': 4,
  'sparse-attention': 4,
  ssm: 4,
  memory: 4,
  train: 5,
  models: 6,
  cli: 7,
};

/** The packages that hold one folder per mechanism. */
export const families: readonly string[] = ['attention', 'linear-attention', 'sparse-attention', 'ssm', 'memory', 'models'];
