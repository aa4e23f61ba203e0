import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { families } from './floors.ts';

/** The root folder of the repository, without a slash at its end. */
export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

/** What we read of a package.json. */
export interface Manifest {
  name: string;
  version: string;
  private?: boolean;
  type?: string;
  license?: string;
  sideEffects?: boolean | string[];
  engines?: { node?: string };
  exports?: Record<string, string | null | { '@seqloom/source'?: string; types?: string; default?: string }>;
  files?: string[];
  scripts?: Record<string, string>;
  dependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  publishConfig?: { access?: string };
  repository?: { directory?: string };
  [field: string]: unknown;
}

/** One package of the workspace. */
export interface WorkspacePackage {
  /** the folder's name, also the name after `@seqloom/` */
  readonly name: string;
  /** absolute path */
  readonly folder: string;
  readonly manifest: Manifest;
}

/** One mechanism folder: a folder of a family that holds a card. */
export interface MechanismFolder {
  readonly id: string;
  readonly package: string;
  /** absolute path */
  readonly folder: string;
}

/** All packages, in the order of their names. */
export function packages(): WorkspacePackage[] {
  return globSync('packages/*/package.json', { cwd: root })
    .sort()
    .map((file) => {
      const folder = join(root, dirname(file));
      return { name: basename(folder), folder, manifest: JSON.parse(readFileSync(join(root, file), 'utf8')) as Manifest };
    });
}

/** The packages that are published. */
export function publicPackages(): WorkspacePackage[] {
  return packages().filter(({ manifest }) => !manifest.private);
}

/** All mechanism folders, by package and id. */
export function mechanismFolders(): MechanismFolder[] {
  return families.flatMap((name) =>
    globSync('*/card.ts', { cwd: join(root, 'packages', name, 'src') })
      .sort()
      .map((file) => ({ id: dirname(file), package: name, folder: join(root, 'packages', name, 'src', dirname(file)) })),
  );
}

/** TypeScript sources of a package, relative to its folder: no declarations, nothing built, no AssemblyScript. */
export function sources(pkg: WorkspacePackage): string[] {
  if (!existsSync(join(pkg.folder, 'src'))) return [];
  return globSync('src/**/*.ts', { cwd: pkg.folder })
    .filter((file) => !file.endsWith('.d.ts') && !file.startsWith('src/assembly/'))
    .sort();
}
