import { stat } from 'node:fs/promises';
import { fail } from '@seqloom/core';
import type { Components } from '../component-types.ts';
import { defaultComponents } from '../components.ts';
import { folderRepository } from './folder-repository.ts';
import { fetchSnapshot } from './hub-cache.ts';
import type { CacheOptions } from './hub-cache.ts';
import { hubRepository } from './hub.ts';
import { loadPretrained } from './load-pretrained.ts';
import type { LoadPretrainedOptions, Pretrained } from './load-pretrained.ts';
import type { Repository } from './repository.ts';

/** Options of `fromPretrained`. */
export interface FromPretrainedOptions extends LoadPretrainedOptions, CacheOptions {
  /** parts that the model may be made of, default all of this release */
  readonly components?: Components;
  readonly onProgress?: LoadPretrainedOptions['onProgress'];
  readonly signal?: AbortSignal;
}

/** A checkpoint that was loaded, and the folder of its files. */
export interface PretrainedFolder extends Pretrained {
  /** holds `config.json`, the weights and, if there is one, `tokenizer.json` */
  readonly folder: string;
}

/**
 * Loads a public checkpoint by its id on a hub, or from a folder: files are fetched into a cache (resumed, hash-checked, pinned to a
 * commit), `config.json` becomes a hybrid config, and the weights stream in tensor by tensor.
 *
 * @param idOrFolder `owner/name`, or the path of a folder with `config.json` and `model.safetensors` or its shards
 * @returns the model (the caller disposes it), its config, and a report of every tensor
 * @throws SeqLoomError on an unknown id or revision, a refusal, an unreachable hub, a wrong hash, an architecture that is not supported, or
 *   weights that do not match the config
 *
 * @example
 * const { model, folder } = await fromPretrained('state-spaces/mamba-130m-hf');
 */
export async function fromPretrained(idOrFolder: string, options: FromPretrainedOptions = {}): Promise<PretrainedFolder> {
  const { components = defaultComponents } = options;
  if (await isLocal(idOrFolder)) {
    const loaded = await loadPretrained(folderRepository(idOrFolder), components, options);
    return { ...loaded, folder: idOrFolder };
  }
  const { folder, commit } = await fetchSnapshot(idOrFolder, options);
  return { ...(await loadPretrained(folderRepository(folder, idOrFolder, commit), components, options)), folder };
}

/**
 * The files of a model, without fetching more than is read of them: a local folder, the cache (offline), or the hub itself.
 *
 * @throws SeqLoomError as `fromPretrained`
 */
export async function openRepository(idOrFolder: string, options: CacheOptions = {}): Promise<Repository> {
  if (await isLocal(idOrFolder)) return folderRepository(idOrFolder);
  if (!options.offline) return hubRepository(idOrFolder, options);
  const { folder, commit } = await fetchSnapshot(idOrFolder, options);
  return folderRepository(folder, idOrFolder, commit);
}

/** Whether a text names a folder, not a model of a hub. */
async function isLocal(idOrFolder: string): Promise<boolean> {
  const local = await isFolder(idOrFolder);
  if (!local && looksLikePath(idOrFolder)) {
    const remedy = 'Check the path; a model of a hub is named owner/name.';
    fail({ mechanism: 'checkpoint', argument: 'folder', wanted: 'an existing folder', given: JSON.stringify(idOrFolder), remedy });
  }
  return local;
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function looksLikePath(text: string): boolean {
  return /^(\.|~|\/|[A-Za-z]:)|\\/.test(text) || text.split('/').length > 2;
}
