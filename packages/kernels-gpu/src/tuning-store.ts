import { workgroupSum } from './wgsl/functions.ts';
import { tileSource } from './wgsl/softmax-attention-tiles.ts';
import { load, multiply } from './wgsl/tiling.ts';
import { checkTuning, tunings } from './wgsl/tuning.ts';
import type { GpuTuning } from './wgsl/tuning.ts';

/** Settings that are measured; the others change numbers, which is the user's choice. */
export type MeasuredTuning = Pick<GpuTuning, 'matMul' | 'smallMatMul' | 'attention' | 'subgroups'>;

/** What is kept: one result per adapter, each with the fingerprint of the shaders that it was measured with. */
type Store = Record<string, { readonly shaders: string; readonly tuning: MeasuredTuning }>;

/** Where results are kept: a file of the user's cache in Node, the page's storage in a browser. */
interface Place {
  readonly name: string;
  read(): string | null;
  write(text: string): void;
}

const KEY = 'seqloom-kernels-gpu-tuning';

function cacheFolder(): string {
  const { homedir } = process.getBuiltinModule('node:os');
  const { join } = process.getBuiltinModule('node:path');
  const { XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (XDG_CACHE_HOME) return XDG_CACHE_HOME;
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches');
  if (process.platform === 'win32') return LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local');
  return join(homedir(), '.cache');
}

function place(): Place {
  if (typeof process === 'undefined' || process.versions?.node === undefined) {
    return { name: `localStorage ${KEY}`, read: () => localStorage.getItem(KEY), write: (text) => localStorage.setItem(KEY, text) };
  }
  const { mkdirSync, readFileSync, renameSync, writeFileSync } = process.getBuiltinModule('node:fs');
  const { dirname, join } = process.getBuiltinModule('node:path');
  const file = join(cacheFolder(), 'seqloom', `${KEY}.json`);
  return {
    name: file,
    read: () => readFileSync(file, 'utf8'),
    write(text) {
      mkdirSync(dirname(file), { recursive: true });
      // whoever reads meanwhile finds the old file or the new one, never a part
      const draft = `${file}.${process.pid}`;
      writeFileSync(draft, text);
      renameSync(draft, file);
    },
  };
}

let shaders: string | undefined;

/** Changes when the shaders that are measured do, or the table that a result was compared with. */
function fingerprint(): string {
  if (shaders !== undefined) return shaders;
  const tiling = { ...tunings.other.matMul, numbers: 'f32' as const };
  const text = [
    load('a', tiling, true, false, 'm'),
    multiply(tiling, '0u', 'k', ''),
    tileSource({ kind: 'forward', tall: 4, wide: 4, numbers: 'f32', columns: 4, bound: {}, listed: false }),
    tileSource({ kind: 'dKey', tall: 4, wide: 4, numbers: 'f32', columns: 4, bound: {}, listed: false }),
    workgroupSum(128, true),
    JSON.stringify(tunings),
  ].join('');
  // FNV-1a
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return (shaders = (hash >>> 0).toString(16));
}

function adapterKey(device: GPUDevice): string {
  const info = device.adapterInfo as GPUAdapterInfo | undefined;
  const parts = [info?.vendor, info?.architecture, info?.device, info?.description].filter(Boolean);
  return parts.join(' ') || 'unknown adapter';
}

function readStore({ read }: Place): Store {
  try {
    const found: unknown = JSON.parse(read() ?? '{}');
    return typeof found === 'object' && found !== null && !Array.isArray(found) ? (found as Store) : {};
  } catch {
    // nothing there, or nothing that can be read: as if nothing had been measured
    return {};
  }
}

/** What was measured on an adapter with the shaders of this package; undefined for anything else, broken results included. */
export function measuredTuning(device: GPUDevice): MeasuredTuning | undefined {
  const found = readStore(place())[adapterKey(device)];
  if (!found || found.shaders !== fingerprint()) return undefined;
  try {
    const { matMul, smallMatMul, attention, subgroups } = found.tuning;
    if (!matMul || !smallMatMul || !attention || subgroups === undefined) return undefined;
    const tuning = { matMul, smallMatMul, attention, subgroups };
    checkTuning(tuning);
    return tuning;
  } catch {
    return undefined;
  }
}

/**
 * Keeps a result for the next `useGpuKernels`, in `seqloom/seqloom-kernels-gpu-tuning.json` of the user's cache folder, or in `localStorage`.
 *
 * @returns where it is
 * @throws whatever the file system or the storage says against it
 */
export function storeTuning(device: GPUDevice, tuning: MeasuredTuning): string {
  const where = place();
  const store = { ...readStore(where), [adapterKey(device)]: { shaders: fingerprint(), tuning } };
  where.write(`${JSON.stringify(store, null, 2)}\n`);
  return where.name;
}
