import { readFileSync } from 'node:fs';

// what a user's bundle already has, or never bundles: the tensor core, its backends, Node itself
const outside = ['@tensorflow/*', '@huggingface/*', 'webgpu', 'node:*', 'valibot', 'commander', 'cli-progress', 'uplot', 'vite'];

// kilobytes of minified and gzipped code, a little above what was measured: a jump is then a decision, not an accident
const limits = {
  core: 60,
  'kernels-wasm': 80,
  'kernels-gpu': 45,
  attention: 30,
  'linear-attention': 60,
  ssm: 40,
  'sparse-attention': 50,
  memory: 50,
  train: 40,
  models: 30,
  cli: 40,
};

const modifyEsbuildConfig = (config) => ({
  ...config,
  platform: 'neutral',
  mainFields: ['module', 'main'],
  conditions: ['import', 'default'],
});

/** Names of the packages that a package.json declares; a package's own entry counts its own code alone. */
const declared = (name) =>
  Object.keys(JSON.parse(readFileSync(new URL(`packages/${name}/package.json`, import.meta.url), 'utf8')).dependencies ?? {});

export default [
  ...Object.entries(limits).map(([name, limit]) => ({
    name: `@seqloom/${name}`,
    path: `packages/${name}/dist/index.js`,
    limit: `${limit} kB`,
    ignore: [...outside, ...declared(name)],
    modifyEsbuildConfig,
  })),
  // one mechanism with everything that it needs of core: shows that the rest is shaken off
  {
    name: 'one mechanism only (linear-attention)',
    path: 'packages/linear-attention/dist/linear-attention/index.js',
    limit: '30 kB',
    ignore: outside,
    modifyEsbuildConfig,
  },
];
