import { existsSync, readFileSync } from 'node:fs';
import type { MechanismCard } from '@seqloom/core';
import { expect, test } from 'vitest';
import { generated, renderJson, renderMarkdown, withExports } from './mechanisms.ts';
import { root } from './workspace.ts';

const card: MechanismCard = {
  id: 'toy-mean',
  title: 'Toy mean',
  paper: { title: 'On means', authors: 'A. Author', year: 2020, id: 'arXiv:2001.00001' },
  patterns: ['causal-self'],
  forms: ['naive', 'recurrent'],
  kernels: ['LinearScan'],
  decode: 'constant-state',
  stateBytes: () => 4,
  complexity: { train: 'O(T)', decode: 'O(1)' },
  reference: { repository: 'none', path: '', licence: '' },
  deviations: ['starts at zero | not at one'],
  degenerate: [],
  evidence: 'properties-only',
  since: '0.1.0',
};

test('what is generated from the cards is up to date', async () => {
  const stale = [...(await generated())].filter(([path, text]) => !existsSync(path) || readFileSync(path, 'utf8') !== text);
  expect(
    stale.map(([path]) => path.slice(root.length + 1)),
    'run npm run docs:mechanisms and commit what it writes',
  ).toEqual([]);
});

test('a card becomes one row', () => {
  const cards = [{ package: 'attention', card }];
  expect(JSON.parse(renderJson(cards))).toEqual([
    {
      id: 'toy-mean',
      package: '@seqloom/attention',
      title: 'Toy mean',
      paper: card.paper,
      patterns: ['causal-self'],
      forms: ['naive', 'recurrent'],
      kernels: ['LinearScan'],
      decode: 'constant-state',
      evidence: 'properties-only',
    },
  ]);
  const markdown = renderMarkdown(cards);
  expect(markdown).toContain('[On means](https://arxiv.org/abs/2001.00001) (2020)');
  expect(markdown).toContain('`toy-mean`: starts at zero');
});

test('exports follow the cards, and other subpaths stay', () => {
  const entry = (path: string) => ({ '@seqloom/source': `./src/${path}.ts`, types: `./dist/${path}.d.ts`, default: `./dist/${path}.js` });
  const manifest = {
    name: '@seqloom/attention',
    version: '0.1.0',
    exports: { '.': entry('index'), './gone': entry('gone/index'), './cache': entry('cache/kv-cache'), './package.json': './package.json' },
  };
  const { exports } = withExports(manifest, ['toy-mean']);
  expect(Object.keys(exports!)).toEqual(['.', './cache', './toy-mean', './package.json']);
  expect(exports!['./toy-mean']).toEqual(entry('toy-mean/index'));
  expect(withExports({ ...manifest, exports: exports! }, ['toy-mean']).exports).toEqual(exports);
});
