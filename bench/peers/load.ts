import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import type { GpuJs } from './gpu-js.ts';
import { startGpuJs } from './gpu-js.ts';
import type { Jax } from './jax.ts';
import { startJax } from './jax.ts';
import type { OnnxRuntime } from './onnxruntime.ts';
import { startOnnxRuntime } from './onnxruntime.ts';

/** A peer that is left out, and why. */
export interface SkippedPeer {
  readonly name: string;
  readonly reason: string;
}

/** The peers that started. */
export interface Peers {
  readonly jax?: Jax;
  readonly gpuJs?: GpuJs;
  readonly onnxRuntime?: OnnxRuntime;
  /** package names with versions */
  readonly versions: Readonly<Record<string, string>>;
  readonly skipped: readonly SkippedPeer[];
}

/** Names of the peers, as `--peers` takes them. */
export const PEER_NAMES = ['jax-js', 'gpu.js', 'onnxruntime'] as const;
export type PeerName = (typeof PEER_NAMES)[number];

const packages: Readonly<Record<PeerName, string>> = { 'jax-js': '@jax-js/jax', 'gpu.js': 'gpu.js', onnxruntime: 'onnxruntime-node' };
const folder = dirname(import.meta.dirname);
const require = createRequire(join(folder, 'package.json'));

const manifest = (path: string): { version?: string; optionalDependencies?: Record<string, string> } =>
  JSON.parse(readFileSync(path, 'utf8')) as ReturnType<typeof manifest>;

const manifestOf = (name: PeerName): string => join(folder, 'node_modules', packages[name], 'package.json');

function isInstalled(name: PeerName): boolean {
  const file = manifestOf(name);
  const wanted = manifest(join(folder, 'package.json')).optionalDependencies?.[packages[name]];
  return existsSync(file) && manifest(file).version === wanted;
}

/**
 * Installs what the lock file of this folder names, when something is missing; the root's packages stay as they are.
 *
 * @returns why it could not, or null
 */
async function install(names: readonly PeerName[]): Promise<string | null> {
  if (names.every(isInstalled)) return null;
  process.stderr.write('installing the peers of bench/package-lock.json ...\n');
  try {
    await promisify(execFile)('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: folder,
      shell: process.platform === 'win32',
      // the processor's binaries are inside the package; its install script would fetch those of CUDA
      env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip', ONNXRUNTIME_NODE_INSTALL_CUDA: 'skip' },
    });
    return null;
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    return `npm ci in bench failed: ${(stderr || message).trim().split('\n')[0]}`;
  }
}

/** Installs and starts peers; one that does not is skipped with its reason. */
export async function loadPeers(names: readonly PeerName[]): Promise<Peers> {
  const problem = names.length > 0 ? await install(names) : null;
  const skipped: SkippedPeer[] = PEER_NAMES.filter((name) => !names.includes(name)).map((name) => ({ name, reason: 'not asked for' }));
  const versions: Record<string, string> = {};
  const start = async <T>(name: PeerName, begin: (load: () => Promise<unknown>) => Promise<T>): Promise<T | undefined> => {
    if (!names.includes(name)) return undefined;
    if (!isInstalled(name)) {
      skipped.push({ name, reason: problem ?? 'npm could not fetch or unpack it; npm ci --verbose in bench says why' });
      return undefined;
    }
    try {
      const entry = pathToFileURL(require.resolve(packages[name])).href;
      const peer = await begin(() => import(entry));
      versions[packages[name]] = manifest(manifestOf(name)).version ?? 'unknown';
      return peer;
    } catch (error) {
      skipped.push({ name, reason: `does not start: ${(error as Error).message.split('\n')[0]}` });
      return undefined;
    }
  };
  const jax = await start('jax-js', startJax);
  const gpuJs = await start('gpu.js', startGpuJs);
  const onnxRuntime = await start('onnxruntime', startOnnxRuntime);
  return { ...(jax && { jax }), ...(gpuJs && { gpuJs }), ...(onnxRuntime && { onnxRuntime }), versions, skipped };
}
