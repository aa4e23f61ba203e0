// writes what is generated from the cards: MECHANISMS.md, mechanisms.json and the subpath exports of the packages
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MechanismCard } from '@seqloom/core';
import { families } from './floors.ts';
import { type GoldenErrors, recordedErrors } from './golden-errors.ts';
import { type Manifest, mechanismFolders, packages, root } from './workspace.ts';

/** A card and the package that it lives in. */
export interface CardOfPackage {
  readonly package: string;
  readonly card: MechanismCard;
}

/** Imports every card of the workspace. */
export async function readCards(): Promise<CardOfPackage[]> {
  const found = mechanismFolders().map(async ({ package: name, folder }) => {
    const { card } = (await import(join(folder, 'card.ts'))) as { card: MechanismCard };
    return { package: name, card };
  });
  return Promise.all(found);
}

/** One row of mechanisms.json per card. */
export function renderJson(cards: readonly CardOfPackage[]): string {
  const rows = cards.map(({ package: name, card }) => ({
    id: card.id,
    package: `@seqloom/${name}`,
    title: card.title,
    paper: card.paper,
    patterns: card.patterns,
    forms: card.forms,
    kernels: card.kernels,
    decode: card.decode,
    evidence: card.evidence,
  }));
  return `${JSON.stringify(rows, null, 2)}\n`;
}

function errorsOf(errors: GoldenErrors | undefined): string {
  if (!errors) return '';
  const { forward, gradient } = errors;
  return `${forward.toExponential(1)} / ${gradient?.toExponential(1) ?? 'none given'}`;
}

function paperLink({ title, year, id }: MechanismCard['paper']): string {
  const arxiv = /\d{4}\.\d{4,5}/.exec(id)?.[0];
  const doi = /10\.\d{4,}\/\S+/.exec(id)?.[0];
  const target = arxiv ? `https://arxiv.org/abs/${arxiv}` : doi && `https://doi.org/${doi}`;
  return `${target ? `[${title}](${target})` : title} (${year})`;
}

/** The catalogue: one table per package, one line per mechanism, and the deviations below it. */
export function renderMarkdown(cards: readonly CardOfPackage[]): string {
  const lines = [
    '# Mechanisms',
    '',
    'Generated from the cards by `npm run docs:mechanisms`; do not edit. A form is one way to compute the same function. Evidence says what the',
    'numbers are checked against: `golden-original` vectors of the original code, `golden-rederived` vectors from a derivation of our own,',
    '`properties-only` the laws alone. Backends: `wasm` runs the kernels named beside it fused, in place, forward and backward, everything else',
    'is composed of tfjs ops; the laws run on cpu and wasm always and on WebGPU where there is an adapter, SwiftShader in CI. Golden errors are',
    'the worst relative ones over all vectors, forms and backends, outputs and states / gradients, as `npm run laws -- --record` found them.',
  ];
  const errors = recordedErrors();
  for (const family of families) {
    const own = cards.filter((entry) => entry.package === family);
    if (own.length === 0) continue;
    lines.push('', `## @seqloom/${family}`, '');
    lines.push(
      '| mechanism | paper | patterns | forms | backends | decoding carries | train cost | evidence | golden errors |',
      '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    );
    for (const { card } of own) {
      const cells = [
        `[${card.title}](packages/${family}/src/${card.id}/README.md)<br>\`@seqloom/${family}/${card.id}\``,
        paperLink(card.paper),
        card.patterns.join(', '),
        card.forms.join(', '),
        `cpu, wasm (${card.kernels.map((kernel) => `\`${kernel}\``).join(', ') || 'composed'}), webgpu`,
        card.decode,
        card.complexity.train,
        card.evidence,
        errorsOf(errors.get(card.id)),
      ];
      lines.push(`| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`);
    }
    const deviating = own.filter(({ card }) => card.deviations.length > 0);
    if (deviating.length > 0) lines.push('', 'Where we differ from paper or original code:', '');
    for (const { card } of deviating) for (const deviation of card.deviations) lines.push(`- \`${card.id}\`: ${deviation}`);
  }
  return `${lines.join('\n')}\n`;
}

/** A manifest whose exports hold one subpath per mechanism, after `.` and before `./package.json`; entries of other names stay. */
export function withExports(manifest: Manifest, ids: readonly string[]): Manifest {
  const entry = (path: string) => ({ '@seqloom/source': `./src/${path}.ts`, types: `./dist/${path}.d.ts`, default: `./dist/${path}.js` });
  const { './package.json': own = './package.json', ...rest } = manifest.exports ?? {};
  // a mechanism's entry is known by its shape, so that one whose folder is gone goes too
  const stays = Object.entries(rest).filter(([subpath, value]) => {
    const source = typeof value === 'object' ? value?.['@seqloom/source'] : undefined;
    return source !== `./src/${subpath.slice(2)}/index.ts`;
  });
  const mechanisms = ids.map((id) => [`./${id}`, entry(`${id}/index`)]);
  return { ...manifest, exports: { ...Object.fromEntries([...stays, ...mechanisms]), './package.json': own } };
}

/** Everything that is generated: absolute path to wanted text. */
export async function generated(): Promise<Map<string, string>> {
  const cards = await readCards();
  const files = new Map([
    [join(root, 'MECHANISMS.md'), renderMarkdown(cards)],
    [join(root, 'mechanisms.json'), renderJson(cards)],
  ]);
  for (const { name, folder, manifest } of packages().filter((candidate) => families.includes(candidate.name))) {
    const ids = cards.filter((entry) => entry.package === name).map(({ card }) => card.id);
    files.set(join(folder, 'package.json'), `${JSON.stringify(withExports(manifest, ids), null, 2)}\n`);
  }
  return files;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, text] of await generated()) {
    let have = '';
    try {
      have = readFileSync(path, 'utf8');
    } catch {
      // a file that is not there yet is written
    }
    if (have === text) continue;
    writeFileSync(path, text);
    console.log(`wrote ${path.slice(root.length + 1)}`);
  }
}
