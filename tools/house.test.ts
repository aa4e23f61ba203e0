import { existsSync, globSync, readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join, matchesGlob, relative, resolve } from 'node:path';
import type { MechanismCard } from '@seqloom/core';
import { describe, expect, test } from 'vitest';
import { floors } from './floors.ts';
import { mechanismFolders, packages, publicPackages, root, sources } from './workspace.ts';

const specifiers = /(?:\bfrom|\bimport)\s*\(?\s*['"]([\w@./:-]+)['"]/g;
// what a package does not build is for its tests
const onlyInTests = ({ package: name, file }: { package: string; file: string }): boolean => {
  const { exclude = [] } = JSON.parse(readFileSync(join(root, 'packages', name, 'tsconfig.json'), 'utf8')) as { exclude?: string[] };
  return file.endsWith('.bench.ts') || exclude.some((pattern) => matchesGlob(file, pattern));
};
const floorOf = (name: string): number | undefined => floors[name];

/** The modules that a source text imports, in their order. */
function importsOf(text: string): string[] {
  // block comments hold examples, which may import what they like
  return [...text.replaceAll(/\/\*[\s\S]*?\*\//g, '').matchAll(specifiers)].map((match) => match[1]);
}

/** Says what is wrong with one import of a file, or nothing. */
function importFault(from: { package: string; file: string }, specifier: string): string | undefined {
  const isTest = onlyInTests(from);
  if (specifier.startsWith('.')) {
    const target = relative(join('packages', from.package), resolve('/', 'packages', from.package, dirname(from.file), specifier).slice(1));
    return target.startsWith('..') ? 'leaves its package by a relative path' : undefined;
  }
  const name = /^@seqloom\/([^/]+)/.exec(specifier)?.[1];
  if (!name || name === from.package) return undefined;
  if (name === 'testing') return isTest ? undefined : 'brings the dev-only package testing into a source';
  const target = floorOf(name);
  if (target === undefined) return `names a package that has no floor (tools/floors.ts)`;
  // testing stands beside the kernels: it may use core and the kernels, nothing above
  const own = floorOf(from.package) ?? 3;
  if (target < own) return undefined;
  return target === own ? `imports its sibling ${name}` : `imports upwards: ${name} is on floor ${target}, ${from.package} on floor ${own}`;
}

describe('imports only go down', () => {
  test.for(packages().map(({ name }) => name))('%s', (name) => {
    const pkg = packages().find((candidate) => candidate.name === name)!;
    const faults = sources(pkg).flatMap((file) =>
      importsOf(readFileSync(join(pkg.folder, file), 'utf8')).flatMap((specifier) => {
        const fault = importFault({ package: name, file }, specifier);
        return fault ? [`${name}/${file}: '${specifier}' ${fault}`] : [];
      }),
    );
    expect(faults).toEqual([]);
  });

  test('the rule itself refuses siblings, upward imports and escapes', () => {
    const family = { package: 'linear-attention', file: 'src/x/layer.ts' };
    expect(importFault(family, '@seqloom/core')).toBeUndefined();
    expect(importFault(family, '@seqloom/attention')).toBeUndefined();
    expect(importFault(family, './naive.ts')).toBeUndefined();
    expect(importFault(family, '@seqloom/ssm')).toContain('sibling');
    expect(importFault(family, '@seqloom/train')).toContain('upwards');
    expect(importFault(family, '@seqloom/testing')).toContain('dev-only');
    expect(importFault({ ...family, file: 'src/x/x.test.ts' }, '@seqloom/testing')).toBeUndefined();
    expect(importFault(family, '../../../core/src/error.ts')).toContain('relative');
    expect(importFault(family, '@seqloom/unheard-of')).toContain('no floor');
  });

  test('what a source imports is declared in its package.json', () => {
    const faults = packages().flatMap(({ name, folder, manifest }) => {
      const declared = new Set([...Object.keys(manifest.dependencies ?? {}), ...Object.keys(manifest.peerDependencies ?? {})]);
      return sources({ name, folder, manifest })
        .filter((file) => !onlyInTests({ package: name, file }))
        .flatMap((file) => importsOf(readFileSync(join(folder, file), 'utf8')).map((specifier) => ({ file, specifier })))
        .filter(({ specifier }) => !specifier.startsWith('.') && !specifier.startsWith('node:'))
        .map(({ file, specifier }) => ({
          file,
          wanted: specifier
            .split('/')
            .slice(0, specifier.startsWith('@') ? 2 : 1)
            .join('/'),
        }))
        .filter(({ wanted }) => wanted !== manifest.name && !declared.has(wanted))
        .map(({ file, wanted }) => `${name}/${file}: ${wanted} is not in its dependencies or peerDependencies`);
    });
    expect(faults).toEqual([]);
  });
});

describe('packages', () => {
  const published = publicPackages();
  const version = published[0]?.manifest.version;

  test('every package has a floor, apart from the dev-only one', () => {
    expect(
      packages()
        .map(({ name }) => name)
        .filter((name) => floorOf(name) === undefined),
    ).toEqual(['testing']);
  });

  test.for(published.map(({ name }) => name))('%s keeps the contract of a package', (name) => {
    const { manifest, folder } = published.find((candidate) => candidate.name === name)!;
    expect(manifest).toMatchObject({
      name: `@seqloom/${name}`,
      version,
      license: 'Apache-2.0',
      type: 'module',
      sideEffects: false,
      engines: { node: '>=20.19' },
      publishConfig: { access: 'public' },
      repository: { directory: `packages/${name}` },
    });
    expect(manifest.description).toBeTypeOf('string');
    expect(manifest.files).toEqual(expect.arrayContaining(['dist', 'src', '!src/**/*.test.ts', 'README.md', 'LICENSE']));
    expect(manifest.exports?.['./package.json']).toBe('./package.json');
    for (const [subpath, entry] of Object.entries(manifest.exports ?? {})) {
      if (subpath === './package.json' || entry === null) continue;
      expect(Object.keys(entry), `conditions of ${subpath}, in their order`).toEqual(['@seqloom/source', 'types', 'default']);
      const source = (entry as Record<string, string>)['@seqloom/source'];
      expect(existsSync(join(folder, source)), `${subpath} -> ${source}`).toBe(true);
      const built = source.replace('./src/', './dist/').replace(/\.ts$/, '');
      expect(entry).toMatchObject({ types: `${built}.d.ts`, default: `${built}.js` });
    }
    // a workspace package is pinned to the one version that they all share
    for (const [dependency, range] of Object.entries(manifest.dependencies ?? {}))
      if (dependency.startsWith('@seqloom/')) expect(range).toBe(version);
    expect(existsSync(join(folder, 'README.md'))).toBe(true);
  });

  test('no vague homes', () => {
    const vague = globSync('{packages/*/src,tools,bench,examples}/**/{utils,common,misc,helpers,shared}{,.ts,.test.ts}', { cwd: root });
    expect(vague).toEqual([]);
  });

  test('golden vectors say where they come from', () => {
    const folders = [
      ...new Set(globSync('packages/*/golden/**/*.safetensors', { cwd: root }).map((file) => file.split('/').slice(0, 3).join('/'))),
    ];
    expect(folders.filter((folder) => globSync('**/PROVENANCE.md', { cwd: join(root, folder) }).length === 0)).toEqual([]);
  });
});

const forms = ['naive', 'parallel', 'chunk', 'recurrent', 'gathered', 'decode'] as const;

describe('mechanism folders', () => {
  test('a folder with a form has a card', () => {
    const carded = new Set(mechanismFolders().map(({ folder }) => folder));
    const orphans = globSync('packages/*/src/*/naive.ts', { cwd: root }).map((file) => join(root, dirname(file)));
    expect(orphans.filter((folder) => !carded.has(folder))).toEqual([]);
  });

  test.for(mechanismFolders().map((mechanism) => [`${mechanism.package}/${mechanism.id}`, mechanism] as const))(
    '%s',
    async ([, { id, folder }]) => {
      const { card } = (await import(join(folder, 'card.ts'))) as { card: MechanismCard };
      expect(card.id).toBe(id);
      const files = readdirSync(folder, { withFileTypes: true }).map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
      expect(files).toEqual(expect.arrayContaining(['index.ts', 'card.ts', 'naive.ts', 'README.md']));
      expect(
        files.filter((file) => file.startsWith(id) && file.endsWith('.test.ts')),
        'tests named after the mechanism',
      ).not.toEqual([]);
      // a form is a file, and a file of a form is in the card
      expect(forms.filter((form) => files.includes(`${form}.ts`))).toEqual(forms.filter((form) => card.forms.includes(form)));
      const known = new Set([
        'index.ts',
        'card.ts',
        'layer.ts',
        'state.ts',
        'gradient.ts',
        'README.md',
        `${id}.ts`,
        ...forms.map((form) => `${form}.ts`),
      ]);
      const unknown = files.filter((file) => !known.has(file) && !/\.(test|bench)\.ts$/.test(file));
      // a file of another name is fine when the index or a form uses it: it is then named after what it does
      const used = new Set(
        files
          .filter((file) => file.endsWith('.ts'))
          .flatMap((file) => importsOf(readFileSync(join(folder, file), 'utf8')).map((specifier) => basename(specifier))),
      );
      expect(unknown.filter((file) => !used.has(file))).toEqual([]);
    },
  );

  test.for(mechanismFolders().map((mechanism) => [`${mechanism.package}/${mechanism.id}`, mechanism] as const))(
    '%s has a README with a snippet and its paper',
    async ([, { folder }]) => {
      const { card } = (await import(join(folder, 'card.ts'))) as { card: MechanismCard };
      const readme = readFileSync(join(folder, 'README.md'), 'utf8');
      expect(readme).toContain('```ts');
      expect(readme).toContain(card.paper.title);
      expect(readme).toContain(card.evidence);
    },
  );
});
