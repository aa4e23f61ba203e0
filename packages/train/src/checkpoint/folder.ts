import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { fail, readSafetensors, writeSafetensors } from '@seqloom/core';
import type { StateDict } from '@seqloom/core';
import { canonicalJson } from '../data/fingerprint.ts';
import { onDisk, replaceFile, syncFolder, writeSynced } from '../disk.ts';
import type { Checkpoint, CheckpointStore, RunState } from './record.ts';

const FORMAT = 1;
const POINTER = 'latest.json';
const WEIGHTS = 'weights.safetensors';
const OPTIMISER = 'optimiser.safetensors';
const RUN = 'run.json';

/** What `run.json` of a checkpoint holds. */
interface RunFile {
  readonly format: number;
  readonly run: RunState;
  readonly config: unknown;
  /** SHA-256 of the config with sorted keys */
  readonly configHash: string;
  readonly optimiserStep: number;
  /** size and SHA-256 of the files beside it */
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
  readonly versions: Readonly<Record<string, string>>;
}

/**
 * Checkpoints in a folder: one folder `step-<number>` each, and `latest.json`, which names the newest.
 *
 * A checkpoint is written under a temporary name, synced and renamed as a whole, and the pointer is replaced last, so whatever interrupts
 * (a kill, a power cut, a full disk) the last good checkpoint stays.
 *
 * @param folder is made when needed
 * @param options how many to keep, default 2
 */
export function folderCheckpoints(folder: string, options: { readonly keep?: number } = {}): CheckpointStore {
  const { keep = 2 } = options;
  if (!Number.isInteger(keep) || keep < 1) {
    const remedy = 'Keep at least the newest one.';
    fail({ mechanism: 'checkpoint', argument: 'keep', wanted: 'a whole number from 1', given: String(keep), remedy });
  }
  return { load: () => loadNewest(folder), save: (checkpoint) => onDisk('checkpoint', folder, save(folder, checkpoint, keep)) };
}

/**
 * Reads one checkpoint.
 *
 * @param path its folder, or the folder of checkpoints for the newest
 * @throws SeqLoomError when a file is missing, truncated or damaged
 */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  const newest = await newestName(path);
  const folder = newest === null ? path : join(path, newest);
  const file = parseRun(await part(folder, RUN), folder);
  const read = async (name: string): Promise<StateDict> => {
    const bytes = await part(folder, name);
    const noted = file.files[name];
    if (bytes.length !== noted?.bytes) damaged(folder, name, `${noted?.bytes} bytes long`, `${bytes.length} bytes`);
    if (sha256(bytes) !== noted.sha256) damaged(folder, name, 'as it was written', 'other bytes (its SHA-256 differs)');
    const { tensors } = readSafetensors(bytes);
    const other = Object.entries(tensors).find(([, { dtype }]) => dtype !== 'F32');
    if (other) damaged(folder, name, 'a file of F32 tensors', `${other[1].dtype} in ${other[0]}`);
    return Object.fromEntries(
      Object.entries(tensors).map(([key, { shape, data }]) => [key, { shape, data: Float32Array.from(data as Float32Array) }]),
    );
  };
  const weights = await read(WEIGHTS);
  const moments = await read(OPTIMISER);
  return { run: file.run, config: file.config, weights, optimiser: { step: file.optimiserStep, moments } };
}

async function loadNewest(folder: string): Promise<Checkpoint | null> {
  return (await newestName(folder)) === null ? null : readCheckpoint(folder);
}

async function save(folder: string, checkpoint: Checkpoint, keep: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { run, config, weights, optimiser } = checkpoint;
  const name = await freeName(folder, `step-${String(run.step).padStart(8, '0')}`);
  const temporary = join(folder, `.${name}.${randomUUID()}.tmp`);
  try {
    await mkdir(temporary);
    const files: Record<string, { bytes: number; sha256: string }> = {};
    for (const [file, tensors] of [
      [WEIGHTS, weights],
      [OPTIMISER, optimiser.moments],
    ] as const) {
      const bytes = writeSafetensors(
        Object.entries(tensors).map(([key, { shape, data }]) => [key, { dtype: 'F32' as const, shape: [...shape], data }] as const),
      );
      files[file] = { bytes: bytes.length, sha256: sha256(bytes) };
      await writeSynced(join(temporary, file), bytes);
    }
    const content: RunFile = {
      format: FORMAT,
      run,
      config,
      configHash: sha256(canonicalJson(config)),
      optimiserStep: optimiser.step,
      files,
      versions: { '@seqloom/train': await ownVersion(), '@tensorflow/tfjs-core': tf.version_core, node: process.versions.node },
    };
    await writeSynced(join(temporary, RUN), `${JSON.stringify(content, null, 2)}\n`);
    await syncFolder(temporary);
    await rename(temporary, join(folder, name));
    await syncFolder(folder);
    try {
      await replaceFile(join(folder, POINTER), `${JSON.stringify({ checkpoint: name })}\n`);
    } catch (error) {
      await rm(join(folder, name), { recursive: true, force: true });
      throw error;
    }
    await syncFolder(folder);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await tidyUp(folder, name, keep);
}

/** Removes older checkpoints than the newest `keep`, and what killed processes left behind. */
async function tidyUp(folder: string, newest: string, keep: number): Promise<void> {
  const names = await readdir(folder);
  const older = checkpointNames(names).filter((name) => name !== newest);
  const stale = names.filter((name) => /^(\.step-|latest\.json\.).*\.tmp$/.test(name));
  for (const name of [...older.slice(0, Math.max(0, older.length - (keep - 1))), ...stale]) {
    await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** Name of the newest checkpoint of a folder: what the pointer says, and without one the highest step. */
async function newestName(folder: string): Promise<string | null> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
  if (!names.includes(POINTER)) return checkpointNames(names).at(-1) ?? null;
  const text = await readFile(join(folder, POINTER), 'utf8');
  const found = /^\s*\{\s*"checkpoint"\s*:\s*"(step-[\d-]+)"\s*\}\s*$/.exec(text)?.[1];
  if (found === undefined) return damaged(folder, POINTER, 'the name of a checkpoint as JSON', JSON.stringify(text.slice(0, 60)));
  return found;
}

function checkpointNames(names: readonly string[]): string[] {
  return names.filter((name) => /^step-\d{8,}(-\d+)?$/.test(name)).toSorted();
}

/** A run that was set back may come by a step again; the checkpoint in use is not overwritten then. */
async function freeName(folder: string, wanted: string): Promise<string> {
  const taken = new Set(await readdir(folder));
  let name = wanted;
  for (let copy = 2; taken.has(name); copy++) name = `${wanted}-${copy}`;
  return name;
}

function parseRun(bytes: Buffer, folder: string): RunFile {
  let file: Partial<RunFile> | null;
  try {
    file = JSON.parse(bytes.toString('utf8')) as Partial<RunFile> | null;
  } catch {
    return damaged(folder, RUN, 'whole JSON', `${bytes.length} bytes that are none`);
  }
  if (file?.format !== FORMAT) return damaged(folder, RUN, `of format ${FORMAT}`, `format ${String(file?.format)}`);
  const { run, files, optimiserStep, configHash, config } = file;
  const whole = run !== undefined && files !== undefined && Number.isInteger(run.step) && Number.isInteger(optimiserStep) && run.data;
  if (!whole) return damaged(folder, RUN, 'complete', 'one with fields missing');
  if (configHash !== sha256(canonicalJson(config))) return damaged(folder, RUN, 'as it was written', 'a config that was changed');
  return file as RunFile;
}

async function part(folder: string, name: string): Promise<Buffer> {
  try {
    return await readFile(join(folder, name));
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    return damaged(folder, name, 'there', code === 'ENOENT' ? 'no such file' : message);
  }
}

function damaged(folder: string, name: string, wanted: string, given: string): never {
  return fail({
    mechanism: 'checkpoint',
    argument: join(folder, name),
    wanted,
    given,
    remedy: `Name an earlier checkpoint in ${POINTER}, or start anew in another folder.`,
  });
}

function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

async function ownVersion(): Promise<string> {
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
