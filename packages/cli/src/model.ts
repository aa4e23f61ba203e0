import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fail, setupBackend } from '@seqloom/core';
import type { BackendName, Explanation } from '@seqloom/core';
import { HybridModel } from '@seqloom/models';
import type { HybridConfig } from '@seqloom/models';
import { readCheckpoint } from '@seqloom/train/node';
import { presets } from './presets.ts';

/** How a command names its model. */
export interface ModelOptions {
  readonly checkpoint?: string;
  readonly config?: string;
  readonly preset?: string;
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
  if (!Object.hasOwn(presets, name)) {
    fail({
      mechanism: 'seqloom',
      argument: '--preset',
      wanted: `one of ${Object.keys(presets).join(', ')}`,
      given: name,
      remedy: 'Pass one of these, or a file with --config.',
    });
  }
  return presets[name as keyof typeof presets];
}

/** Builds the model that the flags name, with its weights when they name a checkpoint. */
export async function loadModel(options: ModelOptions): Promise<{ model: HybridModel; step: number | null }> {
  const named = [options.checkpoint, options.config, options.preset].filter((value) => value !== undefined);
  if (named.length > 1) {
    fail({
      mechanism: 'seqloom',
      argument: 'model',
      wanted: 'named once',
      given: `${named.length} of --checkpoint, --config and --preset`,
      remedy: 'Leave out all but one.',
    });
  }
  if (options.checkpoint === undefined) return { model: new HybridModel(await readConfig(options)), step: null };
  const { config, weights, run } = await readCheckpoint(checkpointPath(options.checkpoint));
  const model = new HybridModel(config as HybridConfig);
  try {
    model.loadStateDict(weights);
  } catch (error) {
    model.dispose();
    throw error;
  }
  return { model, step: run.step };
}

/** A run folder keeps its checkpoints one floor down. */
function checkpointPath(path: string): string {
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
