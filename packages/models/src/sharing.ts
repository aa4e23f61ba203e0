import { fail } from '@seqloom/core';
import type { ResolvedHybridConfig } from './config.ts';
import type { Definition, LayerPlan } from './layers.ts';

/** Mixers that can attend to another layer's keys and values (`keyValue: 'given'`). */
const SHARING: ReadonlySet<string> = new Set(['mha-mqa-gqa', 'sliding-window-attention']);

/** What producer and consumer must agree on. */
const SAME = ['type', 'window', 'sinks', 'positions', 'kvHeads', 'headDim', 'valueHeadDim'] as const;

/**
 * Marks the layers that attend to an earlier layer's keys and values, and those that use an earlier layer's weights.
 *
 * @throws SeqLoomError when a producer does not come first, a layer is in two groups, or the layers of a group differ
 */
export function planSharing(plan: readonly LayerPlan[], share: ResolvedHybridConfig['share']): LayerPlan[] {
  const shared = [...plan];
  const seen = new Set<number>();
  for (const [number, group] of share.keyValue.entries()) {
    const argument = `config.share.keyValue.${number}`;
    checkGroup(group, plan.length, argument);
    for (const index of group) {
      if (seen.has(index)) refuse(argument, 'layers of no other group', String(index), 'Put each layer into one group.');
      seen.add(index);
    }
    const [producer, ...consumers] = group as [number, ...number[]];
    const own = sharingMixer(plan[producer]!.mixer, producer, argument);
    for (const consumer of consumers) {
      const other = sharingMixer(plan[consumer]!.mixer, consumer, argument);
      const differs = SAME.find((key) => JSON.stringify(own[key]) !== JSON.stringify(other[key]));
      if (differs)
        refuse(
          argument,
          `the same ${differs} in layers ${producer} and ${consumer}`,
          `${JSON.stringify(own[differs])} and ${JSON.stringify(other[differs])}`,
          'Keys, values and what is cached of them must fit every layer of a group.',
        );
      shared[consumer] = { ...shared[consumer]!, mixer: takeKeyValue(plan[consumer]!.mixer), keyValueFrom: producer };
    }
  }
  for (const [number, { layers, part }] of share.weights.entries()) {
    const argument = `config.share.weights.${number}`;
    checkGroup(layers, plan.length, argument);
    const [first, ...rest] = layers as [number, ...number[]];
    for (const index of rest) {
      const layer = shared[index]!;
      const parts = part === 'all' ? (['mixer', 'channel'] as const) : ([part] as const);
      for (const name of parts) {
        if (JSON.stringify(shared[first]![name]) !== JSON.stringify(layer[name]))
          refuse(argument, `one ${name} config in layers ${first} and ${index}`, 'two', 'Give layers that share weights one definition.');
      }
      shared[index] = {
        ...layer,
        ...(parts.includes('mixer' as never) ? { mixerFrom: first } : {}),
        ...(parts.includes('channel' as never) && layer.channel ? { channelFrom: first } : {}),
      };
    }
  }
  return shared;
}

function checkGroup(group: readonly number[], depth: number, argument: string): void {
  const outside = group.find((index) => index >= depth);
  if (outside !== undefined) refuse(argument, `layers in [0, ${depth})`, String(outside), 'Layers count from 0.');
  const late = group.slice(1).find((index) => index <= group[0]!);
  if (late !== undefined)
    refuse(argument, `the producer ${group[0]} before every other layer`, String(late), 'Name the earliest layer first.');
}

function sharingMixer(definition: Definition, layer: number, argument: string): Definition {
  const found = branchesOf(definition).find(({ type }) => SHARING.has(type));
  return (
    found ??
    refuse(
      argument,
      `layers with ${[...SHARING].join(' or ')}`,
      `layer ${layer}: ${definition.type}`,
      'Share keys and values between attention layers.',
    )
  );
}

function takeKeyValue(definition: Definition): Definition {
  if (definition.type !== 'parallel') return { ...definition, keyValue: 'given' };
  const branches = definition.branches as readonly { readonly mixer: Definition }[];
  const at = branches.findIndex(({ mixer }) => SHARING.has(mixer.type));
  return {
    ...definition,
    branches: branches.map((branch, index) => (index === at ? { ...branch, mixer: takeKeyValue(branch.mixer) } : branch)),
  };
}

function branchesOf(definition: Definition): Definition[] {
  if (definition.type !== 'parallel') return [definition];
  return (definition.branches as readonly { readonly mixer: Definition }[]).map(({ mixer }) => mixer);
}

function refuse(argument: string, wanted: string, given: string, remedy: string): never {
  return fail({ mechanism: 'hybrid-model', argument, wanted, given, remedy });
}
