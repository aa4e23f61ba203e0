import type { Random } from '@seqloom/core';
import { IGNORED } from '@seqloom/train';
import type { SequenceTask } from '@seqloom/train';

/** Sizes of the task. */
export interface FarRecallSizes {
  /** tokens of a sequence */
  readonly length: number;
  /** key-value pairs */
  readonly pairs: number;
  /** ids of filler, of keys and of values, as many of each */
  readonly ids: number;
}

/**
 * Recall at one distance: `k_1 v_1 ... k_N v_N` stand somewhere in a sequence of filler, and each key comes back exactly `distance` tokens
 * after its value was written, where its value is asked.
 */
export function farRecall({ length, pairs, ids }: FarRecallSizes, distance: number): SequenceTask {
  const vocabSize = 3 * ids;
  const last = length - distance - 2 * pairs;
  const draw = (random: Random, count: number, first: number): number[] => {
    const left = Array.from({ length: ids }, (_, id) => first + id);
    return Array.from({ length: count }, () => left.splice(random.below(left.length), 1)[0]!);
  };
  return {
    name: `recall at distance ${distance}, ${pairs} pairs, ${length} tokens, ${ids} ids each`,
    vocabSize,
    length,
    example: (random) => {
      const tokens = Int32Array.from({ length }, () => random.below(ids));
      const labels = new Int32Array(length).fill(IGNORED);
      const [keys, values] = [draw(random, pairs, ids), draw(random, pairs, 2 * ids)];
      const start = random.below(last + 1);
      for (let pair = 0; pair < pairs; pair++) {
        const written = start + 2 * pair + 1;
        tokens[written - 1] = keys[pair]!;
        tokens[written] = values[pair]!;
        tokens[written + distance] = keys[pair]!;
        labels[written + distance] = values[pair]!;
      }
      return { ids: tokens, labels };
    },
  };
}
