import { fail } from '@seqloom/core';
import type { Random } from '@seqloom/core';
import { IGNORED } from './task.ts';
import type { SequenceTask, TaskExample } from './task.ts';

/** Options of `mqar`. */
export interface MqarOptions {
  /** number V of ids, default 8192: 0 is filler, 1 to V/2 - 1 are keys, V/2 to V - 1 values */
  readonly vocabSize?: number;
  /** tokens T of a sequence, even and below V */
  readonly length: number;
  /** key-value pairs N */
  readonly pairs: number;
  /** how often the list of pairs is written, default 1 */
  readonly passes?: number;
  /** pairs that are written again with another value after the list, default 0; their last value is the right one */
  readonly updates?: number;
  /** exponent a of the distances, default 0.01: few are long; 1 makes all alike */
  readonly power?: number;
  /** fill what is neither pair nor query with random ids rather than zeros, default true */
  readonly randomFiller?: boolean;
}

/**
 * Multi-query associative recall: pairs of keys and values, then the keys again in another order, and at each the value is asked.
 *
 * `k_1 v_1 ... k_N v_N` stands `passes` times in the first `C` tokens, then `updates` of the pairs with a new value. Key i comes back at
 * token `C + 2 g_i`, where its label stands too; the gaps `g_i` are drawn without replacement from `0 .. (T - C) / 2 - 1` with
 * probabilities proportional to `a (g + 1)^(a - 1)`. The value is not written after a query.
 *
 * @param options sizes; see `MqarOptions` for the defaults
 * @returns a task for `TaskData`, or to draw examples from
 * @throws SeqLoomError when the pairs and their queries do not fit the length, or the keys do not fit the vocabulary
 * @see Arora et al. 2023, "Zoology: Measuring and improving recall in efficient language models", arXiv 2312.04927
 *
 * @example
 * const data = new TaskData([{ task: mqar({ vocabSize: 256, length: 64, pairs: 4 }) }], { seed: 1 });
 */
export function mqar(options: MqarOptions): SequenceTask {
  const settings = { vocabSize: 8192, passes: 1, updates: 0, power: 0.01, randomFiller: true, ...options };
  checkSizes(settings);
  const { vocabSize, length, pairs, passes, updates, power, randomFiller } = settings;
  const context = 2 * (pairs * passes + updates);
  const gaps = (length - context) / 2;
  const firstValue = Math.floor(vocabSize / 2);
  const rates = Array.from({ length: gaps }, (_, gap) => power * (gap + 1) ** (power - 1));

  const example = (random: Random): TaskExample => {
    const keys = distinct(random, pairs, firstValue - 1).map((key) => key + 1);
    const values = distinct(random, pairs, vocabSize - firstValue).map((value) => value + firstValue);
    const ids = new Int32Array(length);
    const labels = new Int32Array(length).fill(IGNORED);
    let at = 0;
    const write = (pair: number): void => {
      ids[at++] = keys[pair]!;
      ids[at++] = values[pair]!;
    };
    for (let pass = 0; pass < passes; pass++) for (let pair = 0; pair < pairs; pair++) write(pair);
    for (const pair of distinct(random, updates, pairs)) {
      // any value but its own
      const next = firstValue + random.below(vocabSize - firstValue - 1);
      values[pair] = next < values[pair]! ? next : next + 1;
      write(pair);
    }
    for (const [pair, gap] of weightedOrder(random, rates).slice(0, pairs).entries()) {
      ids[context + 2 * gap] = keys[pair]!;
      labels[context + 2 * gap] = values[pair]!;
    }
    // keys and values are never 0
    if (randomFiller) for (let i = context; i < length; i++) if (ids[i] === 0) ids[i] = random.below(vocabSize);
    return { ids, labels };
  };
  return { name: `mqar ${JSON.stringify(settings, Object.keys(settings).toSorted())}`, vocabSize, length, example };
}

/** `count` different whole numbers below `limit`, in random order. */
function distinct(random: Random, count: number, limit: number): number[] {
  // the start of a shuffle whose untouched places are not stored
  const moved = new Map<number, number>();
  return Array.from({ length: count }, (_, i) => {
    const j = i + random.below(limit - i);
    const picked = moved.get(j) ?? j;
    moved.set(j, moved.get(i) ?? i);
    return picked;
  });
}

/**
 * Indices in the order in which drawing without replacement, each time in proportion to the rates left, gives them: the order of
 * exponential waiting times.
 */
function weightedOrder(random: Random, rates: readonly number[]): number[] {
  const times = rates.map((rate) => -Math.log(1 - random.uniform()) / rate);
  return [...times.keys()].toSorted((a, b) => times[a]! - times[b]!);
}

function checkSizes({ vocabSize, length, pairs, passes, updates, power }: Required<MqarOptions>): void {
  const refuse = (argument: string, wanted: string, given: number, remedy: string): never =>
    fail({ mechanism: 'mqar', argument, wanted, given: String(given), remedy });
  for (const [argument, value, least] of [
    ['length', length, 4],
    ['pairs', pairs, 1],
    ['passes', passes, 1],
    ['updates', updates, 0],
  ] as const) {
    if (!Number.isInteger(value) || value < least) refuse(argument, `a whole number from ${least}`, value, `Correct ${argument}.`);
  }
  if (length % 2 !== 0) refuse('length', 'even', length, 'Keys stand at even places, counted from 0.');
  if (!Number.isInteger(vocabSize) || vocabSize <= length)
    refuse('vocabSize', `a whole number above the length ${length}`, vocabSize, 'Take more ids or a shorter sequence.');
  if (updates > pairs) refuse('updates', `at most the ${pairs} pairs`, updates, 'A pair is written anew at most once.');
  const needed = 2 * (pairs * passes + updates + pairs);
  if (needed > length) refuse('length', `at least ${needed}, for the pairs and their queries`, length, 'Take fewer pairs or passes.');
  if (!(power > 0) || !Number.isFinite(power)) refuse('power', 'a finite number above 0', power, 'The usual exponent is 0.01.');
}
