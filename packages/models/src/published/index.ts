import { fail } from '@seqloom/core';
import type { HybridConfig } from '../config.ts';
import type { Architecture } from './architecture.ts';
import { mambaLm } from './mamba-lm.ts';
import { transformerPp } from './transformer-pp.ts';
import { based } from './based.ts';
import { rat } from './rat.ts';
import { jamba } from './jamba.ts';
import { qwen3Next } from './qwen3-next.ts';
import { minimaxText01M1 } from './minimax-text-01-m1.ts';
import { falconH1 } from './falcon-h1.ts';
import { hymba } from './hymba.ts';
import { kimiLinear } from './kimi-linear.ts';
import { transnormerLlm } from './transnormer-llm.ts';
import { titansModels } from './titans-models.ts';
import { rmt } from './rmt.ts';
import { lm2 } from './lm2.ts';
import { routingTransformer } from './routing-transformer.ts';
import { memformer } from './memformer.ts';

export type { Architecture } from './architecture.ts';
export type { MambaLmShape } from './mamba-lm.ts';
export type { TransformerPpShape } from './transformer-pp.ts';
export type { BasedShape } from './based.ts';
export type { RatShape } from './rat.ts';
export type { JambaShape } from './jamba.ts';
export type { Qwen3NextShape } from './qwen3-next.ts';
export type { MinimaxShape } from './minimax-text-01-m1.ts';
export type { FalconH1Multipliers, FalconH1Shape } from './falcon-h1.ts';
export type { HymbaShape } from './hymba.ts';
export type { KimiLinearShape } from './kimi-linear.ts';
export type { TransnormerShape } from './transnormer-llm.ts';
export type { TitansShape } from './titans-models.ts';
export type { RmtShape } from './rmt.ts';
export type { Lm2Shape } from './lm2.ts';
export type { RoutingShape } from './routing-transformer.ts';
export type { MemformerShape } from './memformer.ts';

/** Published architectures by id, for configs of any shape. */
export const architectures = {
  'transformer-pp': transformerPp,
  'mamba-lm': mambaLm,
  based,
  rat,
  jamba,
  'qwen3-next': qwen3Next,
  'minimax-text-01-m1': minimaxText01M1,
  hymba,
  'kimi-linear': kimiLinear,
  'falcon-h1': falconH1,
  'transnormer-llm': transnormerLlm,
  'titans-models': titansModels,
  rmt,
  lm2,
  'routing-transformer': routingTransformer,
  memformer,
};

/** Names of all published sizes, such as `based/360m`. */
export function publishedNames(): string[] {
  return Object.values<Architecture<never>>(architectures as never).flatMap(({ id, sizes }) =>
    Object.keys(sizes).map((size) => `${id}/${size}`),
  );
}

/**
 * The config of a published size, to change or to build.
 *
 * @param name architecture and size, such as `based/360m`
 * @throws SeqLoomError on a name that does not exist; it tells which do
 */
export function publishedConfig(name: string): HybridConfig {
  const [id = '', size = ''] = name.split('/');
  const known = architectures as unknown as Readonly<Record<string, Architecture<unknown>>>;
  const architecture = Object.hasOwn(known, id) ? known[id] : undefined;
  const found = architecture && Object.hasOwn(architecture.sizes, size) ? architecture.sizes[size] : undefined;
  if (!architecture || !found) {
    const names = publishedNames().filter((one) => !architecture || one.startsWith(`${id}/`));
    return fail({
      mechanism: 'publishedConfig',
      argument: 'name',
      wanted: `one of ${names.join(', ')}`,
      given: JSON.stringify(name),
      remedy: 'Choose one of these, or give `architectures` a shape of your own.',
    });
  }
  return architecture.config(found.shape);
}
