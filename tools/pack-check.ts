// packs every public package (or those named on the command line) and checks the tarballs as npm would install them
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { publicPackages, root } from './workspace.ts';

/** Runs a command of node_modules/.bin and returns what it printed, or throws with it. */
function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, FORCE_COLOR: '0' },
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed\n${stdout}${stderr}${error?.message ?? ''}`);
  return stdout;
}

const asked = process.argv.slice(2);
const licence = readFileSync(join(root, 'LICENSE'), 'utf8');
const destination = mkdtempSync(join(tmpdir(), 'seqloom-pack-'));
let failures = 0;
try {
  for (const { name, folder } of publicPackages().filter((candidate) => asked.length === 0 || asked.includes(candidate.name))) {
    try {
      const [packed] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', destination, folder])) as [
        { filename: string; files: { path: string }[] },
      ];
      const paths = packed.files.map((file) => file.path);
      const wrong = [
        ...['LICENSE', 'README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts']
          .filter((path) => !paths.includes(path))
          .map((path) => `${path} is missing`),
        ...paths.filter((path) => /\.(test|bench)\.|tsbuildinfo$|^golden\//.test(path)).map((path) => `${path} should not be packed`),
        ...(existsSync(join(folder, 'LICENSE')) && readFileSync(join(folder, 'LICENSE'), 'utf8') === licence
          ? []
          : ['LICENSE differs from the one at the root']),
      ];
      if (wrong.length > 0) throw new Error(wrong.join('\n'));
      const tarball = join(destination, packed.filename);
      run('publint', ['run', tarball, '--strict']);
      run('attw', [tarball, '--profile', 'esm-only', '--no-color', '--no-emoji']);
      console.log(`${name}: ${paths.length} files, ${(statSync(tarball).size / 1024).toFixed(0)} kB packed, publint and attw clean`);
    } catch (error) {
      failures += 1;
      console.error(`${name}: ${(error as Error).message}`);
    }
  }
} finally {
  rmSync(destination, { recursive: true, force: true });
}
if (failures > 0) process.exitCode = 1;
