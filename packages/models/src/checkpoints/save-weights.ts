import { fail } from '@seqloom/core';
import type { Module } from '@seqloom/core';
import type { Mapping } from './adapter.ts';
import { planMapping } from './mapping.ts';
import type { Group } from './mapping.ts';
import type { LaidTensor } from './transform.ts';

/** A checkpoint tensor that is made when its turn comes. */
export interface PendingTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** whether it keeps float32 in a checkpoint of a narrower type */
  readonly keepFloat32: boolean;
  readonly data: () => Promise<Float32Array>;
}

/**
 * A model's parameters as tensors of a checkpoint, in its own names and layouts: the inverse of `loadWeights`.
 *
 * Beside the model, memory is that of the groups of tensors that are begun and not yet written.
 *
 * @param depth layers of the model
 * @throws SeqLoomError when the mapping leaves a parameter out
 */
export function checkpointTensors(model: Module, depth: number, mapping: Mapping): PendingTensor[] {
  const parameters = model.namedParameters();
  const plan = planMapping(mapping, new Map([...parameters].map(([name, { shape }]) => [name, shape])), depth);
  if (plan.without.length > 0) {
    fail({
      mechanism: 'checkpoint',
      argument: 'model',
      wanted: 'one whose parameters all have a place in the checkpoint',
      given: plan.without.slice(0, 20).join(', '),
      remedy: 'Save with the config that the model was loaded with, or without one, in our own form.',
    });
  }
  const values = async (group: Group): Promise<readonly LaidTensor[]> => {
    const own: LaidTensor[] = [];
    for (const name of group.own) {
      const parameter = parameters.get(name)!;
      own.push({ shape: parameter.shape, data: Float32Array.from((await parameter.value.data()) as Float32Array) });
    }
    return group.transform.backward(own);
  };
  // tensors of one group are written at different times; it is made once, and let go with its last tensor
  const made = new Map<Group, { tensors: Promise<readonly LaidTensor[]>; left: number }>();
  return plan.groups.flatMap((group) =>
    group.hub.map((name, place) => ({
      name,
      shape: group.shapes[place]!,
      keepFloat32: mapping.keepFloat32?.some((pattern) => pattern.test(name)) ?? false,
      data: async () => {
        const entry = made.get(group) ?? { tensors: values(group), left: group.hub.length };
        entry.left--;
        if (entry.left > 0) made.set(group, entry);
        else made.delete(group);
        return (await entry.tensors)[place]!.data!;
      },
    })),
  );
}
