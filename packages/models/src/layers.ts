import { fail } from '@seqloom/core';
import type { Components } from './component-types.ts';
import { checkResidual, parseParallel } from './config.ts';
import type { ResolvedHybridConfig } from './config.ts';
import { expandPattern } from './pattern.ts';
import { planSharing } from './sharing.ts';

/** A definition with its component type. */
export type Definition = Readonly<Record<string, unknown>> & { readonly type: string };

/** One layer of a plan; `channel` is null for `none`. */
export interface LayerPlan {
  readonly mixerName: string;
  readonly channelName: string;
  readonly mixer: Definition;
  readonly channel: Definition | null;
  readonly residual: ResolvedHybridConfig['residual'];
  /** the layer whose keys and values this one attends to; null: its own */
  readonly keyValueFrom: number | null;
  /** the layers whose mixer and channel mixer this one uses; null: its own */
  readonly mixerFrom: number | null;
  readonly channelFrom: number | null;
}

/**
 * Resolves patterns, definitions, overrides and sharing to one plan per layer, without making a tensor.
 *
 * @throws SeqLoomError on an unknown name or component, an override that hits nothing, or layers that cannot share
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
      residual: config.residual,
      keyValueFrom: null,
      mixerFrom: null,
      channelFrom: null,
    };
  });
  for (const [number, override] of config.overrides.entries()) {
    const argument = `config.overrides.${number}`;
    for (const index of layersOf(override.at, plan, argument)) {
      const layer = plan[index]!;
      plan[index] = {
        ...layer,
        mixer: merge(layer.mixer, override.mixer, override.replace, `${argument}.mixer`, components.mixers),
        channel: layer.channel && merge(layer.channel, override.channel, override.replace, `${argument}.channel`, components.channels),
        residual: override.residual ? checkResidual({ ...layer.residual, ...override.residual }, `${argument}.residual`) : layer.residual,
      };
    }
  }
  const placed = plan.map((layer, index) => ({
    ...layer,
    mixer: place(layer.mixer, index, plan.length),
    channel: layer.channel && place(layer.channel, index, plan.length),
  }));
  return planSharing(placed, config.share);
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

/** `$layer` and `$layers` become the layer's index and the depth, wherever they stand. */
function place<T>(value: T, layer: number, layers: number): T {
  if (value === '$layer') return layer as T;
  if (value === '$layers') return layers as T;
  if (Array.isArray(value)) return value.map((item: unknown) => place(item, layer, layers)) as T;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, place(item as unknown, layer, layers)])) as T;
}

function checkType(definition: Definition, argument: string, known: Readonly<Record<string, unknown>>): Definition {
  if (definition.type === 'parallel' && !argument.includes('channel')) {
    for (const [index, branch] of parseParallel(definition).branches.entries())
      checkType(branch.mixer, argument.replace(/type$/, `branches.${index}.mixer.type`), known);
    return definition;
  }
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
