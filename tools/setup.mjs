// brings node_modules up to date with the lock file; runs on any Node from 20.19, before anything is installed
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** True when what is installed is what the lock file asks for, optional packages of other platforms aside. */
function upToDate() {
  const installed = `${root}node_modules/.package-lock.json`;
  if (!existsSync(installed)) return false;
  // npm keeps a copy of the lock file inside node_modules: comparing contents survives a checkout, which changes file times
  const wanted = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8')).packages;
  const have = JSON.parse(readFileSync(installed, 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, entry]) =>
      path === '' || entry.optional || entry.link || !path.includes('node_modules/') || have[path]?.version === entry.version,
  );
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(
    `SeqLoom needs Node 20.19 or newer to set itself up, this is ${process.versions.node}: install a newer Node and run the command again.`,
  );
  process.exit(1);
}
if (!upToDate()) {
  console.log('Installing the packages of package-lock.json (npm ci, about a minute) ...');
  const result = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  });
  if (result.status !== 0) {
    console.error('npm ci failed: read the lines above, check the network and the npm registry, then run the command again.');
    process.exit(result.status ?? 1);
  }
}
