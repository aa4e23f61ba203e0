import { Block, deriveSeed, fail, ParallelMixer } from '@seqloom/core';
import type { ChannelMixer, Module, SequenceMixer } from '@seqloom/core';
import type { ComponentConfig, Components } from './component-types.ts';
import { parseParallel } from './config.ts';
import type { ResolvedHybridConfig } from './config.ts';
import type { Definition, LayerPlan } from './layers.ts';
import { Stack } from './stack.ts';

/** Disposes what was made when a later part cannot be built. */
export class Scaffold {
  readonly #made: Module[] = [];

  /** Keeps a module in mind. */
  track<T extends Module>(module: T): T {
    this.#made.push(module);
    return module;
  }

  /** Frees everything made so far. */
  clear(): void {
    for (const module of this.#made) module.dispose();
  }
}

/** Makes the stack of a plan, inside its segment recurrence if there is one. */
export function buildStack(
  config: ResolvedHybridConfig,
  plan: readonly LayerPlan[],
  components: Components,
  scaffold: Scaffold,
): { readonly stack: Stack; readonly mixer: SequenceMixer } {
  const { dim, seed, norm, metaTokens, positions, segments } = config;
  if (segments && metaTokens)
    fail({
      mechanism: 'hybrid-model',
      argument: 'config.metaTokens',
      wanted: 'absent beside segments',
      given: `${metaTokens.count} tokens`,
      remedy: 'Segments bring memory tokens of their own.',
    });
  const layers: Block[] = [];
  for (const [index, layer] of plan.entries()) {
    const mixer =
      layer.mixerFrom === null
        ? buildMixer(layer.mixer, config, deriveSeed(seed, `layers.${index}.mixer`), components, scaffold)
        : layers[layer.mixerFrom]!.mixer;
    const channel =
      layer.channel === null
        ? null
        : layer.channelFrom === null
          ? buildChannel(layer.channel, dim, deriveSeed(seed, `layers.${index}.channel`), components, scaffold)
          : layers[layer.channelFrom]!.channel;
    layers.push(scaffold.track(new Block({ mixer, channel, norm, residual: layer.residual })));
  }
  const stack = scaffold.track(
    new Stack({
      dim,
      layers,
      keyValueFrom: plan.map(({ keyValueFrom }) => keyValueFrom),
      norm: config.finalNorm ? norm : null,
      metaTokens,
      positions,
      seed: deriveSeed(seed, 'stack'),
    }),
  );
  if (!segments) return { stack, mixer: stack };
  const known = components.segments ?? {};
  const make = Object.hasOwn(known, segments.type) ? known[segments.type] : undefined;
  if (!make)
    return fail({
      mechanism: 'hybrid-model',
      argument: 'config.segments.type',
      wanted: `one of ${Object.keys(known).join(', ') || 'the components passed in, which have none'}`,
      given: JSON.stringify(segments.type),
      remedy: 'Use a component of this release, or pass your own components.',
    });
  return { stack, mixer: scaffold.track(make(componentConfig(segments, dim, deriveSeed(seed, 'segments')), stack)) };
}

function buildMixer(
  definition: Definition,
  config: ResolvedHybridConfig,
  seed: number,
  components: Components,
  scaffold: Scaffold,
): SequenceMixer {
  if (definition.type !== 'parallel')
    return scaffold.track(components.mixers[definition.type]!(componentConfig(definition, config.dim, seed)));
  const { branches, combine, output, outputDeviation } = parseParallel(definition);
  return scaffold.track(
    new ParallelMixer({
      branches: branches.map(({ mixer, norm, inputScale, outputScale }, index) => ({
        mixer: buildMixer(mixer, config, deriveSeed(seed, `branches.${index}`), components, scaffold),
        norm: norm === true ? config.norm : norm === false ? null : norm,
        inputScale,
        outputScale,
      })),
      combine,
      output,
      outputDeviation,
      seed: deriveSeed(seed, 'output'),
    }),
  );
}

function buildChannel(definition: Definition, dim: number, seed: number, components: Components, scaffold: Scaffold): ChannelMixer {
  return scaffold.track(components.channels[definition.type]!(componentConfig(definition, dim, seed)));
}

function componentConfig(definition: Readonly<Record<string, unknown>>, dim: number, seed: number): ComponentConfig {
  const { type: _type, ...config } = definition;
  return { dim, seed, ...config };
}
