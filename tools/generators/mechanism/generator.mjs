import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { formatFiles, generateFiles } from '@nx/devkit';
import { families } from '../../floors.ts';

const camelCase = (id) => id.replaceAll(/-(\w)/g, (_, letter) => letter.toUpperCase());

/**
 * Writes the folder of a new mechanism.
 *
 * @param {import('@nx/devkit').Tree} tree
 * @param {{ package: string, id: string, title?: string }} options
 */
export default async function mechanism(tree, options) {
  const { package: family, id } = options;
  if (!families.includes(family)) throw new Error(`Mechanisms live in ${families.join(', ')}; ${family} is none of them.`);
  if (!/^[a-z][a-z0-9-]*$/.test(id)) throw new Error(`An id is made of small letters, digits and dashes; given: ${id}.`);
  const manifestPath = `packages/${family}/package.json`;
  if (!tree.exists(manifestPath)) throw new Error(`There is no package ${family} yet.`);
  const folder = `packages/${family}/src/${id}`;
  if (tree.exists(`${folder}/card.ts`)) throw new Error(`${folder} holds a mechanism already.`);

  const functionName = camelCase(id);
  const className = functionName[0].toUpperCase() + functionName.slice(1);
  const title = options.title ?? id.replaceAll('-', ' ').replace(/^./, (letter) => letter.toUpperCase());
  const manifest = JSON.parse(tree.read(manifestPath, 'utf8'));
  generateFiles(tree, fileURLToPath(new URL('files', import.meta.url)), folder, {
    id,
    family,
    functionName,
    className,
    title,
    version: manifest.version,
  });

  // the layer validates its config
  const { devDependencies } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  if (!manifest.dependencies?.valibot) {
    manifest.dependencies = { ...manifest.dependencies, valibot: devDependencies.valibot };
    tree.write(manifestPath, `${JSON.stringify(manifest, null, 2)}\n`);
  }
  await formatFiles(tree);
  return () => {
    console.log(`\n${folder} is there; its test fails until it is filled in. Next:
  1. card.ts, then naive.ts from the paper, then layer.ts
  2. npm test -- ${folder}
  3. export * from './${id}/index.ts' in packages/${family}/src/index.ts, then npm run docs:mechanisms
  4. npx changeset`);
  };
}
