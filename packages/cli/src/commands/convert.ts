import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deferParameters, fail } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import type { Hybrid, HybridConfig } from '@seqloom/models';
import { fromPretrained, openRepository, savePretrained } from '@seqloom/models/node';
import { COMPANION_FILES, describePretrained } from '@seqloom/models/pretrained';
import type { HubConfig, LoadDtype } from '@seqloom/models/pretrained';
import { folderCheckpoints, readCheckpoint } from '@seqloom/train/node';
import type { BackendFlags, ModelOptions } from '../model.ts';
import { checkpointPath, hubOptions, progressLines, startBackend } from '../model.ts';
import { print } from '../output.ts';

/** Flags of `seqloom convert`. */
export interface ConvertFlags extends BackendFlags, Pick<ModelOptions, 'revision' | 'offline' | 'cache' | 'hub'> {
  readonly from: string;
  readonly target: string;
  readonly to?: string;
  readonly like?: string;
  readonly dtype: string;
  readonly maxShardBytes: number;
  readonly overwrite: boolean;
  readonly json: boolean;
}

/** Folder of a run that keeps the config and the tokeniser of the public checkpoint that it came from. */
const ORIGIN = 'hub';

/** `seqloom convert`: between public checkpoints and our run folders, both ways. */
export async function convert(flags: ConvertFlags): Promise<void> {
  const fromRun = isRun(flags.from);
  const kind = flags.to ?? (fromRun ? 'hub' : 'run');
  if (kind !== 'hub' && kind !== 'run') refuse('--to', 'hub or run', kind, 'Leave it out for the one that <from> is not.');
  if (!['F32', 'BF16', 'F16'].includes(flags.dtype)) refuse('--dtype', 'F32, BF16 or F16', flags.dtype, 'Choose one of them.');
  if (flags.like !== undefined && !(fromRun && kind === 'hub'))
    refuse('--like', 'left out', flags.like, 'It is for turning a run into a public checkpoint.');
  const { backend } = await startBackend(flags);
  const source = fromRun ? await openRun(flags) : await openHub(flags);
  try {
    if (kind === 'hub') await writeHub(source, flags);
    else await writeRun(source, flags);
    const { model, config } = source;
    const [parameters, type] = [model.countParameters(), config ? String(config['model_type']) : 'seqloom'];
    print(flags.json, { from: flags.from, to: flags.target, kind, modelType: type, parameters, backend }, () => [
      `${flags.target}: ${kind === 'hub' ? 'a public checkpoint' : 'a run'} of type ${type}, ${parameters.toLocaleString('en')} parameters`,
    ]);
  } finally {
    source.model.dispose();
  }
}

/** A model, and the public form that belongs to it. */
interface Source {
  readonly model: Hybrid;
  /** its `config.json`; null: our own form */
  readonly config: HubConfig | null;
  /** folder of its tokeniser files; null: there is none */
  readonly companions: string | null;
}

async function openHub(flags: ConvertFlags): Promise<Source> {
  const { model, config, folder } = await fromPretrained(flags.from, { ...hubOptions(flags), onProgress: progressLines(flags) });
  return { model, config, companions: folder };
}

async function openRun(flags: ConvertFlags): Promise<Source> {
  const checkpoint = await readCheckpoint(checkpointPath(flags.from));
  const origin = join(flags.from, ORIGIN);
  const like = flags.like ?? (existsSync(join(origin, 'config.json')) ? origin : null);
  const described = like === null ? null : (await describePretrained(await openRepository(like, hubOptions(flags)))).config;
  const model = deferParameters(() => new HybridModel(checkpoint.config as HybridConfig));
  try {
    model.loadStateDict(checkpoint.weights);
  } catch (error) {
    model.dispose();
    throw error;
  }
  return { model, config: described, companions: like !== null && existsSync(like) ? like : null };
}

async function writeHub({ model, config, companions }: Source, flags: ConvertFlags): Promise<void> {
  await savePretrained(model, flags.target, {
    ...(config ? { config } : {}),
    ...(companions === null ? {} : { companions }),
    dtype: flags.dtype as LoadDtype,
    maxShardBytes: flags.maxShardBytes,
    overwrite: flags.overwrite,
  });
}

async function writeRun({ model, config, companions }: Source, { target, overwrite }: ConvertFlags): Promise<void> {
  const held = existsSync(target) ? await readdir(target) : [];
  if (held.length > 0 && !overwrite)
    refuse('<to>', 'a new or empty folder', `${target}, which holds ${held.length} entries`, 'Choose another, or pass --overwrite.');
  // the folder appears as a whole
  const staged = `${target}.${randomUUID()}.tmp`;
  await mkdir(join(staged, ORIGIN), { recursive: true });
  try {
    if (config) await writeFile(join(staged, ORIGIN, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
    for (const file of COMPANION_FILES)
      if (companions !== null && existsSync(join(companions, file))) await copyFile(join(companions, file), join(staged, ORIGIN, file));
    await writeFile(join(staged, 'config.json'), `${JSON.stringify(model.config, null, 2)}\n`);
    await folderCheckpoints(join(staged, 'checkpoints')).save({
      run: {
        step: 0,
        total: null,
        tokens: 0,
        skipped: 0,
        seconds: 0,
        // no text was read yet
        data: { epoch: 0, offset: 0, seed: 0, length: 1, text: '' },
        evaluations: [],
      },
      config: model.config,
      weights: await model.stateDict(),
      optimiser: { step: 0, moments: {} },
    });
    await rm(target, { recursive: true, force: true });
    await rename(staged, target);
  } finally {
    await rm(staged, { recursive: true, force: true });
  }
}

/** Whether a path is one of our runs or checkpoints, and not a public one. */
function isRun(path: string): boolean {
  return ['checkpoints', 'latest.json', 'run.json'].some((name) => existsSync(join(path, name)));
}

function refuse(argument: string, wanted: string, given: string, remedy: string): never {
  return fail({ mechanism: 'seqloom', argument, wanted, given, remedy });
}
