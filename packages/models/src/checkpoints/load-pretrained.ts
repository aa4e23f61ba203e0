import {
  blobSource,
  bytesSource,
  deferParameters,
  fail,
  INDEX_FILE,
  openSafetensorsSource,
  openShardedSafetensors,
  parseSafetensorsIndex,
} from '@seqloom/core';
import type { ByteSource, TensorReader } from '@seqloom/core';
import type { Components } from '../component-types.ts';
import type { HybridConfig } from '../config.ts';
import { Hybrid } from '../hybrid.ts';
import type { CheckpointAdapter } from './adapter.ts';
import { findAdapter } from './adapters/index.ts';
import type { HubConfig } from './config-reader.ts';
import { ConfigReader } from './config-reader.ts';
import { parsePythonJson } from './json.ts';
import { loadWeights } from './load-weights.ts';
import type { LoadDtype, LoadReport } from './load-weights.ts';
import type { PretrainedProgress, Repository } from './repository.ts';

/** What loading a checkpoint may be told, wherever it lies. */
export interface LoadPretrainedOptions {
  readonly onProgress?: (progress: PretrainedProgress) => void;
  readonly signal?: AbortSignal;
  /** rounds the weights to this type while loading, default F32: as stored. They are held as float32 in any case */
  readonly dtype?: LoadDtype;
  /** throw unless every tensor and every parameter is accounted for, default true */
  readonly strict?: boolean;
  /** families of checkpoints that are known, default all of this release */
  readonly adapters?: readonly CheckpointAdapter[];
}

/** A checkpoint that was loaded. */
export interface Pretrained {
  /** the caller disposes it */
  readonly model: Hybrid;
  /** `config.json` as it was */
  readonly config: HubConfig;
  /** `generation_config.json`, if there is one */
  readonly generationConfig: HubConfig | null;
  /** id of the adapter that read it */
  readonly adapter: string;
  readonly report: LoadReport;
  /** commit that the files are of; null outside a hub */
  readonly commit: string | null;
  /** The text of another file of the checkpoint, such as `tokenizer.json`; null when there is none. */
  readonly readFile: (file: string) => Promise<string | null>;
}

/**
 * Loads a checkpoint from a repository: `config.json` becomes a hybrid config, the weights stream in tensor by tensor.
 *
 * @param repository where the files lie
 * @param components the parts that the model may be made of, as values, so that a bundle holds only these
 * @throws SeqLoomError when a file is missing or damaged, the architecture is not supported, or the weights do not match
 */
export async function loadPretrained(
  repository: Repository,
  components: Components,
  options: LoadPretrainedOptions = {},
): Promise<Pretrained> {
  const { signal, dtype = 'F32' } = options;
  const { label } = repository;
  if (!['F32', 'BF16', 'F16'].includes(dtype)) {
    const remedy = 'Weights are held as float32; a narrower type rounds them to it.';
    fail({ mechanism: 'checkpoint', argument: 'dtype', wanted: 'F32, BF16 or F16', given: JSON.stringify(dtype), remedy });
  }
  const { config, reading, adapter, hybrid } = await describePretrained(repository, options.adapters);
  const generationConfig = await readJson(repository, 'generation_config.json');
  signal?.throwIfAborted();
  await using reader = await openWeights(repository);
  // nothing is filled in that the checkpoint overwrites
  const model = deferParameters(() => new Hybrid(hybrid, components));
  try {
    const shapes = new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter.shape]));
    const report = await loadWeights(model, model.stack.layers.length, reader, adapter.mapping(reading, shapes), {
      label,
      dtype,
      strict: options.strict ?? true,
      signal,
      onProgress: options.onProgress,
    });
    const readFile = (file: string): Promise<string | null> => repository.text(file);
    return { model, config, generationConfig, adapter: adapter.id, report, commit: repository.commit, readFile };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** What a checkpoint's `config.json` says. */
export interface PretrainedDescription {
  /** `config.json` as it is */
  readonly config: HubConfig;
  readonly reading: ConfigReader;
  readonly adapter: CheckpointAdapter;
  /** what `new Hybrid` takes */
  readonly hybrid: HybridConfig;
}

/**
 * Reads a checkpoint's `config.json` alone, so that a model can be counted or built anew without its weights.
 *
 * @throws SeqLoomError when the file is missing or damaged, or the architecture is not supported
 */
export async function describePretrained(repository: Repository, adapters?: readonly CheckpointAdapter[]): Promise<PretrainedDescription> {
  const config = (await readJson(repository, 'config.json')) ?? absent(repository.label, 'config.json');
  const reading = new ConfigReader(config, `${repository.label} config.json`);
  const adapter = findAdapter(reading, adapters);
  return { config, reading, adapter, hybrid: adapter.toHybrid(reading) };
}

/** Opens `model.safetensors`, or the shards that its index names. */
async function openWeights(repository: Repository): Promise<TensorReader> {
  const need = async (file: string): Promise<ByteSource> => (await repository.open(file)) ?? absent(repository.label, file);
  const index = await repository.text(INDEX_FILE);
  if (index !== null) return openShardedSafetensors(parseSafetensorsIndex(index, `${repository.label} ${INDEX_FILE}`), need);
  return openSafetensorsSource(await need('model.safetensors'));
}

async function readJson(repository: Repository, file: string): Promise<HubConfig | null> {
  const text = await repository.text(file);
  if (text === null) return null;
  try {
    const value = parsePythonJson(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as HubConfig;
  } catch {
    // told below
  }
  return fail({
    mechanism: 'checkpoint',
    argument: `${repository.label} ${file}`,
    wanted: 'a JSON object',
    given: JSON.stringify(text.slice(0, 60)),
    remedy: 'Fetch the file again.',
  });
}

function absent(label: string, file: string): never {
  const remedy =
    file === 'config.json'
      ? 'Name a folder or repository that holds a checkpoint.'
      : 'Weights are read from safetensors alone: convert others with the tool that made them.';
  return fail({ mechanism: 'checkpoint', argument: `${label} ${file}`, wanted: 'there', given: 'no such file', remedy });
}

/**
 * A repository of files in memory, such as a browser's file input gives.
 *
 * @param files name to content
 */
export function filesRepository(files: ReadonlyMap<string, Blob | Uint8Array>, label = 'files'): Repository {
  return {
    label,
    commit: null,
    async text(file) {
      const found = files.get(file);
      if (found === undefined) return null;
      return found instanceof Uint8Array ? new TextDecoder().decode(found) : found.text();
    },
    open(file) {
      const found = files.get(file);
      if (found === undefined) return Promise.resolve(null);
      return Promise.resolve((found instanceof Uint8Array ? bytesSource : blobSource)(found as never, `${label} ${file}`));
    },
  };
}
