import type { Hybrid } from '@seqloom/models';
import { layerDefinitions, defaultComponents } from '@seqloom/models';
import { print, readableBytes, table } from '../output.ts';

/** What `inspect` prints as JSON. */
export interface InspectReport {
  readonly parameters: number;
  readonly layers: readonly { readonly index: number; readonly mixer: string; readonly channel: string; readonly parameters: number }[];
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[]; readonly decay: boolean }[];
  /** one row each: state bytes and floating-point operations of the next token after `length` tokens */
  readonly byLength: readonly { readonly length: number; readonly stateBytes: number; readonly flopsPerToken: number }[];
}

const LENGTHS = [1, 256, 1024, 4096, 16_384, 65_536];

/** Layers, parameters, state bytes and arithmetic of a model. */
export function inspectModel(model: Hybrid): InspectReport {
  const plan = layerDefinitions(model.config, defaultComponents);
  return {
    parameters: model.countParameters(),
    layers: model.stack.layers.map((layer, index) => ({
      index,
      mixer: `${plan[index]!.mixerName} (${plan[index]!.mixer.type})`,
      channel: plan[index]!.channel ? `${plan[index]!.channelName} (${plan[index]!.channel.type})` : 'none',
      parameters: layer.countParameters(),
    })),
    tensors: [...model.namedParameters()].map(([name, { shape, decay }]) => ({ name, shape, decay })),
    byLength: LENGTHS.map((length) => ({ length, stateBytes: model.stateBytes(1, length), flopsPerToken: model.flopsPerToken(length) })),
  };
}

/** `seqloom inspect`. */
export function inspect(model: Hybrid, { json, tensors }: { readonly json: boolean; readonly tensors: boolean }): void {
  const found = inspectModel(model);
  print(json, found, () => [
    `${found.parameters.toLocaleString('en')} parameters in ${found.layers.length} layers`,
    '',
    ...table([
      ['layer', 'mixer', 'channel mixer', 'parameters'],
      ...found.layers.map(({ index, mixer, channel, parameters }) => [index, mixer, channel, parameters]),
    ]),
    '',
    ...table([
      ['tokens seen', 'state, one row', 'FLOPs of the next token'],
      ...found.byLength.map(({ length, stateBytes, flopsPerToken }) => [length, readableBytes(stateBytes), flopsPerToken]),
    ]),
    ...(tensors
      ? [
          '',
          ...table([
            ['tensor', 'shape', 'weight decay'],
            ...found.tensors.map(({ name, shape, decay }) => [name, `[${shape.join(', ')}]`, decay ? 'yes' : 'no']),
          ]),
        ]
      : []),
  ]);
}
