import { fail } from '@seqloom/core';
import type { Components } from './components.ts';
import type { ResolvedHybridConfig } from './config.ts';
import { expandPattern } from './pattern.ts';

/** A definition with its component type. */
export type Definition = Readonly<Record<string, unknown>> & { readonly type: string };

/** One layer of a plan; `channel` is null for `none`. */
export interface LayerPlan {
  readonly mixerName: string;
  readonly channelName: string;
  readonly mixer: Definition;
  readonly channel: Definition | null;
}

/**
 * Resolves patterns, definitions and overrides to one plan per layer, without making a tensor.
 *
 * @throws SeqLoomError on an unknown name or component, or an override that hits nothing
 */
export function layerDefinitions(config: ResolvedHybridConfig, components: Components): LayerPlan[] {
  const mixers = expandPattern(config.mixers, config.depth ?? null, 'config.mixers');
  const channels = expandPattern(config.channels, mixers.length, 'config.channels');
  const find = (name: string, argument: string, known: Readonly<Record<string, unknown>>): Definition => {
    const definition = config.definitions[name] as Definition | undefined;
    if (!definition) {
      return refuse(
        argument,
        `one of the definitions ${Object.keys(config.definitions).join(', ')}`,
        JSON.stringify(name),
        'Define it in config.definitions.',
      );
    }
    return checkType(definition, `config.definitions.${name}.type`, known);
  };
  const plan = mixers.map((mixerName, index): LayerPlan => {
    const channelName = channels[index]!;
    return {
      mixerName,
      channelName,
      mixer: find(mixerName, 'config.mixers', components.mixers),
      channel: channelName === 'none' ? null : find(channelName, 'config.channels', components.channels),
    };
  });
  for (const [number, override] of config.overrides.entries()) {
    const argument = `config.overrides.${number}`;
    const layers = layersOf(override.at, plan, argument);
    for (const index of layers) {
      const layer = plan[index]!;
      plan[index] = {
        ...layer,
        mixer: merge(layer.mixer, override.mixer, override.replace, `${argument}.mixer`, components.mixers),
        channel: layer.channel && merge(layer.channel, override.channel, override.replace, `${argument}.channel`, components.channels),
      };
    }
  }
  return plan;
}

function layersOf(at: ResolvedHybridConfig['overrides'][number]['at'], plan: readonly LayerPlan[], argument: string): number[] {
  let layers: number[];
  if (Array.isArray(at)) {
    layers = at;
  } else if (typeof at === 'string') {
    const range = /^(\d+)-(\d+)$/.exec(at);
    if (!range) return refuse(`${argument}.at`, 'a range such as "3-7"', JSON.stringify(at), 'Give the first and the last layer.');
    layers = [];
    for (let index = Number(range[1]); index <= Number(range[2]); index++) layers.push(index);
  } else {
    layers = [...plan.keys()].filter((index) =>
      'mixer' in at ? plan[index]!.mixerName === at.mixer : plan[index]!.channelName === at.channel,
    );
  }
  const outside = layers.find((index) => !Number.isInteger(index) || index < 0 || index >= plan.length);
  if (layers.length === 0 || outside !== undefined) {
    return refuse(
      `${argument}.at`,
      `layers in [0, ${plan.length})`,
      outside === undefined ? 'none' : String(outside),
      'Layers count from 0.',
    );
  }
  return layers;
}

function merge(
  base: Definition,
  set: Readonly<Record<string, unknown>> | undefined,
  replace: boolean,
  argument: string,
  known: Readonly<Record<string, unknown>>,
): Definition {
  if (!set) return base;
  if (replace) return checkType({ type: base.type, ...set }, `${argument}.type`, known);
  if (set.type !== undefined && set.type !== base.type) {
    return refuse(`${argument}.type`, `left as ${base.type}`, JSON.stringify(set.type), 'Set replace: true to change the component.');
  }
  return { ...base, ...set };
}

function checkType(definition: Definition, argument: string, known: Readonly<Record<string, unknown>>): Definition {
  if (Object.hasOwn(known, definition.type)) return definition;
  return refuse(
    argument,
    `one of ${Object.keys(known).join(', ')}`,
    JSON.stringify(definition.type),
    'Use a component of this release, or pass your own components.',
  );
}

function refuse(argument: string, wanted: string, given: string, remedy: string): never {
  return fail({ mechanism: 'hybrid-model', argument, wanted, given, remedy });
}
