import { fail } from '@seqloom/core';
import type { CheckpointAdapter } from '../adapter.ts';
import type { ConfigReader } from '../config-reader.ts';
import { jamba } from './jamba.ts';
import { deepseekV3 } from './deepseek-v3.ts';
import { falconH1 } from './falcon-h1.ts';
import { flaDeltaNet, flaGatedDeltaNet, flaGla, flaKda } from './fla.ts';
import { hymba } from './hymba.ts';
import { kimiLinear } from './kimi-linear.ts';
import { llama } from './llama.ts';
import { mamba } from './mamba.ts';
import { mamba2 } from './mamba2.ts';
import { minimax } from './minimax.ts';
import { qwen3Next } from './qwen3-next.ts';
import { seqloom } from './seqloom.ts';

/** The families of checkpoints that this release reads and writes. */
export const defaultAdapters: readonly CheckpointAdapter[] = [
  llama,
  mamba,
  mamba2,
  jamba,
  minimax,
  qwen3Next,
  deepseekV3,
  hymba,
  kimiLinear,
  falconH1,
  flaGla,
  flaDeltaNet,
  flaGatedDeltaNet,
  flaKda,
  seqloom,
];

/**
 * The adapter for a `config.json`, by its `model_type`.
 *
 * @throws SeqLoomError when the architecture is not supported (the nearest that is, is named), or the weights are quantised
 */
export function findAdapter(config: ConfigReader, adapters: readonly CheckpointAdapter[] = defaultAdapters): CheckpointAdapter {
  const { model_type: type, quantization_config: quantised } = config.config;
  const adapter = adapters.find(({ modelTypes }) => modelTypes.includes(type as string));
  if (!adapter) {
    const nearest = nearestAdapter(config, adapters);
    fail({
      mechanism: 'checkpoint',
      argument: `${config.label} model_type`,
      wanted: `one of ${adapters.flatMap(({ modelTypes }) => modelTypes).join(', ')}`,
      given: JSON.stringify(type) ?? 'nothing',
      remedy: `This architecture is not supported; the nearest that is: ${nearest}.`,
    });
  }
  if (quantised !== undefined && quantised !== null) {
    const method = (quantised as { quant_method?: unknown }).quant_method;
    fail({
      mechanism: 'checkpoint',
      argument: `${config.label} quantization_config`,
      wanted: 'absent: quantised weights are not supported',
      given: JSON.stringify(method ?? quantised),
      remedy: 'Load the BF16, F16 or F32 weights of the model.',
    });
  }
  return adapter;
}

/** The family whose config has most in common with this one; a similar name decides between equals. */
function nearestAdapter({ config }: ConfigReader, adapters: readonly CheckpointAdapter[]): string {
  const type = String(config['model_type'] ?? '');
  const score = ({ keys, modelTypes }: CheckpointAdapter): number => {
    const common = keys.filter((key) => Object.hasOwn(config, key)).length;
    return common / Math.max(keys.length, 1) - Math.min(...modelTypes.map((known) => distance(known, type))) / 1000;
  };
  return adapters.toSorted((a, b) => score(b) - score(a))[0]?.id ?? 'none';
}

/** Letters to insert, remove or replace between two words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) next.push(Math.min(row[j]! + (letter === b[j] ? 0 : 1), row[j + 1]! + 1, next[j]! + 1));
    row = next;
  }
  return row[b.length]!;
}
