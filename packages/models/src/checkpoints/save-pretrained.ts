import { randomUUID } from 'node:crypto';
import { copyFile, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { deferParameters, fail } from '@seqloom/core';
import { writeSafetensorsFile, writeShardedSafetensors } from '@seqloom/core/node';
import { defaultComponents } from '../components.ts';
import { resolveHybridConfig } from '../config.ts';
import { Hybrid } from '../hybrid.ts';
import type { CheckpointAdapter } from './adapter.ts';
import { findAdapter } from './adapters/index.ts';
import { SEQLOOM_TYPE } from './adapters/seqloom.ts';
import type { HubConfig } from './config-reader.ts';
import { ConfigReader } from './config-reader.ts';
import { describeModel } from './describe-model.ts';
import { formatPythonJson } from './json.ts';
import type { LoadDtype } from './load-weights.ts';
import { COMPANION_FILES } from './repository.ts';
import { checkpointTensors } from './save-weights.ts';

/** Options of `savePretrained`. */
export interface SavePretrainedOptions {
  /** the `config.json` that the model was loaded with, whose names and layouts are used; default: our own form */
  readonly config?: HubConfig;
  /** type that weights are stored in, default F32; what a narrower type would harm (decays, biases of steps, norms) stays F32 */
  readonly dtype?: LoadDtype;
  /** tensor bytes per shard at most, default 5e9; a checkpoint that fits one has no index */
  readonly maxShardBytes?: number;
  /** a folder whose tokeniser files and generation config are copied along */
  readonly companions?: string;
  /** replace a folder that holds something, default false */
  readonly overwrite?: boolean;
  readonly adapters?: readonly CheckpointAdapter[];
  readonly signal?: AbortSignal;
}

const TORCH_DTYPES: Readonly<Record<LoadDtype, string>> = { F32: 'float32', BF16: 'bfloat16', F16: 'float16' };

/**
 * Writes a model as a checkpoint folder that other libraries read: `config.json`, and safetensors in the original names, tensor by tensor.
 *
 * The folder appears as a whole: whatever interrupts, there is either the old one or the new one.
 *
 * @returns names of the files
 * @throws SeqLoomError when the folder holds something, or the model is not one of this config; an abort or a failing disk leaves the folder
 *   as it was
 */
export async function savePretrained(model: Hybrid, folder: string, options: SavePretrainedOptions = {}): Promise<string[]> {
  const { dtype = 'F32', maxShardBytes = 5e9, overwrite = false, signal } = options;
  const config = options.config ?? { model_type: SEQLOOM_TYPE, stack_spec: model.config };
  const reading = new ConfigReader(config);
  const adapter = findAdapter(reading, options.adapters);
  checkSame(model, adapter, reading);
  const shapes = new Map([...model.namedParameters()].map(([name, { shape }]) => [name, shape]));
  const pending = checkpointTensors(model, model.stack.layers.length, adapter.mapping(reading, shapes));
  const tensors = pending.map(({ name, shape, keepFloat32, data }) => [name, { dtype: keepFloat32 ? 'F32' : dtype, shape, data }] as const);
  const bytes = pending.reduce((sum, { shape, keepFloat32 }) => sum + product(shape) * (keepFloat32 || dtype === 'F32' ? 4 : 2), 0);
  const target = resolve(folder);
  await checkFree(target, overwrite);
  const staged = join(dirname(target), `.${basename(target)}.${randomUUID()}.tmp`);
  try {
    await mkdir(staged, { recursive: true });
    const settings = { metadata: { format: 'pt' }, ...(signal ? { signal } : {}) };
    if (bytes <= maxShardBytes) await writeSafetensorsFile(join(staged, 'model.safetensors'), tensors, settings);
    else await writeShardedSafetensors(staged, tensors, { ...settings, maxShardBytes });
    const key = Object.hasOwn(config, 'dtype') ? 'dtype' : 'torch_dtype';
    await writeFile(join(staged, 'config.json'), formatPythonJson({ ...config, [key]: TORCH_DTYPES[dtype] }));
    if (options.companions !== undefined) await copyCompanions(options.companions, staged);
    signal?.throwIfAborted();
    await replaceFolder(staged, target);
  } finally {
    await rm(staged, { recursive: true, force: true });
  }
  return (await readdir(target)).toSorted();
}

/** A config that says something else than the model would be read as another model later; a default that is written out says nothing else. */
function checkSame(model: Hybrid, adapter: CheckpointAdapter, config: ConfigReader): void {
  const hybrid = adapter.toHybrid(config);
  // the usual case, and the only one for parts that this release does not have
  if (JSON.stringify(resolveHybridConfig(hybrid)) === JSON.stringify(model.config)) return;
  const described = describeModel(deferParameters(() => new Hybrid(hybrid, defaultComponents)));
  const own = describeModel(model);
  const other = [...new Set([...own.keys(), ...described.keys()])].find((name) => described.get(name) !== own.get(name));
  if (other === undefined) return;
  fail({
    mechanism: 'checkpoint',
    argument: `config (read as ${adapter.id})`,
    wanted: `a description of this model, whose ${other} is ${shorten(own.get(other) ?? 'nothing')}`,
    given: shorten(described.get(other) ?? 'nothing'),
    remedy: 'Pass the config that the model was loaded with, or none to save in our own form.',
  });
}

function shorten(text: string): string {
  return text.length > 200 ? `${text.slice(0, 197)}...` : text;
}

async function checkFree(target: string, overwrite: boolean): Promise<void> {
  const held = await readdir(target).catch((error: NodeJS.ErrnoException) => (error.code === 'ENOENT' ? [] : [target]));
  if (held.length === 0 || overwrite) return;
  const given = `${held.length} entries in it`;
  fail({
    mechanism: 'checkpoint',
    argument: target,
    wanted: 'a new or empty folder',
    given,
    remedy: 'Choose another folder, or pass overwrite: true.',
  });
}

async function replaceFolder(staged: string, target: string): Promise<void> {
  const aside = `${staged}.old`;
  const had = await rename(target, aside).then(
    () => true,
    () => false,
  );
  try {
    await rename(staged, target);
  } catch (error) {
    if (had) await rename(aside, target);
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}

async function copyCompanions(from: string, to: string): Promise<void> {
  const there = new Set(await readdir(from));
  for (const file of COMPANION_FILES) if (there.has(file)) await copyFile(join(from, file), join(to, file));
}

function product(shape: readonly number[]): number {
  return shape.reduce((all, size) => all * size, 1);
}
