import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deferParameters, fail, setupBackend } from '@seqloom/core';
import type { BackendName, Explanation } from '@seqloom/core';
import { HybridModel, publishedConfig, publishedNames } from '@seqloom/models';
import type { Hybrid, HybridConfig } from '@seqloom/models';
import { fromPretrained, openRepository } from '@seqloom/models/node';
import type { CacheOptions, PretrainedFolder } from '@seqloom/models/node';
import { describePretrained } from '@seqloom/models/pretrained';
import type { PretrainedProgress } from '@seqloom/models/pretrained';
import { readCheckpoint } from '@seqloom/train/node';
import { presets } from './presets.ts';

/** How a command names its model. */
export interface ModelOptions {
  readonly checkpoint?: string;
  readonly config?: string;
  readonly preset?: string;
  /** id on a hub, or a folder with config.json and safetensors */
  readonly model?: string;
  readonly revision?: string;
  readonly offline?: boolean;
  readonly hub?: string;
  readonly cache?: string;
}

/** A model that the flags name. */
export interface LoadedModel {
  readonly model: Hybrid;
  /** optimiser steps of a checkpoint; null where there are none */
  readonly step: number | null;
  /** what a public checkpoint says of itself; null for our own */
  readonly pretrained: PretrainedFolder | null;
}

/** How a command names its backend. */
export interface BackendFlags {
  readonly backend: string;
  readonly composed?: boolean;
}

/** Sets the asked backend up. */
export function startBackend({ backend, composed }: BackendFlags): Promise<Explanation> {
  return setupBackend(backend as BackendName | 'auto', composed ? { kernels: [] } : {});
}

/** The config that `--config` or `--preset` names. */
export async function readConfig(options: ModelOptions): Promise<HybridConfig> {
  if (options.config !== undefined) return readJson(options.config);
  const name = options.preset ?? 'quickstart';
  if (Object.hasOwn(presets, name)) return presets[name as keyof typeof presets];
  const published = publishedNames();
  if (published.includes(name)) return publishedConfig(name);
  // sizes of the architecture that was meant, or all
  const near = published.filter((one) => one.startsWith(`${name.split('/')[0]}/`));
  return fail({
    mechanism: 'seqloom',
    argument: '--preset',
    wanted: `one of ${(near.length > 0 ? near : [...Object.keys(presets), ...published]).join(', ')}`,
    given: name,
    remedy: 'Pass one of these, or a file with --config.',
  });
}

/** Builds the model that the flags name, with its weights when they name a checkpoint. */
export async function loadModel(options: ModelOptions & { readonly json?: boolean | string }): Promise<LoadedModel> {
  checkNamedOnce(options);
  if (options.model !== undefined) {
    const pretrained = await fromPretrained(options.model, { ...hubOptions(options), onProgress: progressLines(options) });
    return { model: pretrained.model, step: null, pretrained };
  }
  if (options.checkpoint === undefined) return { model: new HybridModel(await readConfig(options)), step: null, pretrained: null };
  const { config, weights, run } = await readCheckpoint(checkpointPath(options.checkpoint));
  const model = new HybridModel(config as HybridConfig);
  try {
    model.loadStateDict(weights);
  } catch (error) {
    model.dispose();
    throw error;
  }
  return { model, step: run.step, pretrained: null };
}

/** Builds the model that the flags name without its weights, to be counted and looked at: of a public checkpoint only the config is read. */
export async function outlineModel(options: ModelOptions): Promise<Hybrid> {
  checkNamedOnce(options);
  if (options.checkpoint !== undefined) return (await loadModel(options)).model;
  const config =
    options.model === undefined
      ? await readConfig(options)
      : (await describePretrained(await openRepository(options.model, hubOptions(options)))).hybrid;
  return deferParameters(() => new HybridModel(config));
}

function checkNamedOnce(options: ModelOptions): void {
  const named = [options.checkpoint, options.config, options.preset, options.model].filter((value) => value !== undefined);
  if (named.length <= 1) return;
  fail({
    mechanism: 'seqloom',
    argument: 'model',
    wanted: 'named once',
    given: `${named.length} of --checkpoint, --config, --preset and --model`,
    remedy: 'Leave out all but one.',
  });
}

/** Where the flags look for public checkpoints; the token comes from the variable that the hub's other tools read. */
export function hubOptions({ revision, offline, hub, cache }: ModelOptions): CacheOptions {
  const accessToken = process.env['HF_TOKEN'];
  return {
    ...(revision === undefined ? {} : { revision }),
    ...(offline === undefined ? {} : { offline }),
    ...(hub === undefined ? {} : { hubUrl: hub }),
    ...(cache === undefined ? {} : { cache }),
    ...(accessToken ? { accessToken } : {}),
  };
}

/** Progress on standard error, a line every two seconds, for work that takes as long. */
export function progressLines({ json }: { readonly json?: boolean | string }): (progress: PretrainedProgress) => void {
  let told = performance.now();
  return ({ phase, name, done, total }) => {
    if (json === true || performance.now() - told < 2000) return;
    told = performance.now();
    process.stderr.write(`${phase === 'download' ? 'fetching' : 'loading'} ${name}: ${Math.floor((100 * done) / Math.max(total, 1))} %\n`);
  };
}

/** A run folder keeps its checkpoints one floor down. */
export function checkpointPath(path: string): string {
  const inside = join(path, 'checkpoints');
  return existsSync(inside) ? inside : path;
}

async function readJson(file: string): Promise<HybridConfig> {
  const refuse = (given: string, cause: unknown): never =>
    fail({
      mechanism: 'seqloom',
      argument: '--config',
      wanted: 'a JSON file',
      given,
      remedy: 'See `seqloom inspect --preset quickstart --json`.',
      cause,
    });
  const text = await readFile(file, 'utf8').catch((cause: Error) => refuse(`${file} (${cause.message})`, cause));
  try {
    return JSON.parse(text) as HybridConfig;
  } catch (cause) {
    return refuse(`${file}, which is not JSON: ${(cause as Error).message}`, cause);
  }
}
