import * as v from 'valibot';
import { divideHeads, fail, layerEntries, naturalNumber, positiveInteger } from '@seqloom/core';
import type { StateShapes } from '@seqloom/core';
import { memoryEntries } from './layer.ts';
import type { TitansNeuralMemory } from './layer.ts';
import type { PersistentAttention } from './persistent-attention.ts';

/** What every layer of attention and memory has. */
export const besideEntries = {
  ...layerEntries,
  /** attention heads, of an even width */
  heads: positiveInteger,
  /** N_p, learned tokens that every query of the attention sees */
  persistent: v.optional(naturalNumber, 4),
};

/** A memory beside attention over a window, within a chunk of its own. */
export const windowEntries = {
  ...besideEntries,
  /** W, tokens that the attention sees, the query's own included */
  window: positiveInteger,
  memory: v.optional(
    v.strictObject({
      ...memoryEntries,
      chunkSize: v.optional(positiveInteger, 16),
      kernelSize: v.optional(v.nullable(positiveInteger), 4),
    }),
    {},
  ),
};

/** State of a memory beside attention over a window: the attention's rows as `window`, and the memory's state under `memory.`. */
export function windowStateShapes(
  batch: number,
  window: number,
  { attention, memory }: { readonly attention: PersistentAttention; readonly memory: TitansNeuralMemory },
): StateShapes {
  const inner = Object.entries({ ...memory.stateShapes(batch), position: [batch] });
  return {
    window: [batch, window - 1, attention.rowWidth],
    ...Object.fromEntries(inner.map(([name, shape]) => [`memory.${name}`, shape])),
  };
}

/** Refuses heads that do not divide the width evenly, or are not of an even width. */
export function checkAttentionHeads(mechanism: string, dim: number, heads: number): void {
  const width = divideHeads(mechanism, dim, heads);
  if (width % 2 === 0) return;
  fail({
    mechanism,
    argument: 'config.heads',
    wanted: 'so many that heads have an even width',
    given: `heads of ${width} channels`,
    remedy: 'Rotary positions turn pairs of channels: choose another number of heads.',
  });
}
