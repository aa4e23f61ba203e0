import { fail } from '@seqloom/core';
import type { Random } from '@seqloom/core';
import { IGNORED } from './task.ts';
import type { SequenceTask, TaskExample } from './task.ts';

/** Options of `needle`. */
export interface NeedleOptions {
  /** number of ids, default 64: 0 marks a fact, 1 a question, of the others half are filler, a quarter keys, a quarter values */
  readonly vocabSize?: number;
  /** tokens of a sequence */
  readonly length: number;
  /** where the fact stands, from 0, the start, to 1, right before the question; default: anywhere, drawn for each example */
  readonly depth?: number;
  /** facts, each with a key of its own, one of which is asked for; the others stand anywhere; default 1 */
  readonly facts?: number;
}

/**
 * A needle in a haystack: `mark key value` somewhere in random filler, and at the end `ask key`, where the value is asked.
 *
 * Depth and length are the axes on which such a test is usually read: the fact starts at token `depth (length - 5)`, rounded.
 *
 * @param options sizes; see `NeedleOptions` for the defaults
 * @returns a task for `TaskData`, or to draw examples from
 * @throws SeqLoomError when the facts do not fit the length, or their keys the vocabulary
 * @see Hsieh et al. 2024, "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv 2404.06654
 *
 * @example
 * const data = new TaskData([{ task: needle({ length: 256, depth: 0.5 }) }], { seed: 1 });
 */
export function needle(options: NeedleOptions): SequenceTask {
  const settings = { vocabSize: 64, facts: 1, ...options };
  checkSizes(settings);
  const { vocabSize, length, depth, facts } = settings;
  const { firstKey, firstValue } = needleIds(vocabSize);
  // the fact and the question take three and two tokens
  const last = length - 5;

  const example = (random: Random): TaskExample => {
    const ids = Int32Array.from({ length }, () => 2 + random.below(firstKey - 2));
    const labels = new Int32Array(length).fill(IGNORED);
    const keys = random.shuffle(Array.from({ length: firstValue - firstKey }, (_, key) => firstKey + key)).slice(0, facts);
    let free = Array.from({ length: last + 1 }, (_, at) => at);
    for (const [fact, key] of keys.entries()) {
      // the one that is asked for comes first, so that its place is free
      const at = fact === 0 && depth !== undefined ? Math.round(depth * last) : free[random.below(free.length)]!;
      const value = firstValue + random.below(vocabSize - firstValue);
      ids.set([MARK, key, value], at);
      free = free.filter((place) => Math.abs(place - at) >= 3);
      if (fact === 0) labels[length - 1] = value;
    }
    ids.set([ASK, keys[0]!], length - 2);
    return { ids, labels };
  };
  return { name: `needle ${JSON.stringify(settings, Object.keys(settings).toSorted())}`, vocabSize, length, example };
}

const [MARK, ASK] = [0, 1];

/** First key and first value of a vocabulary; filler is between 2 and the keys. */
export function needleIds(vocabSize: number): { readonly firstKey: number; readonly firstValue: number } {
  const quarter = Math.floor((vocabSize - 2) / 4);
  return { firstKey: vocabSize - 2 * quarter, firstValue: vocabSize - quarter };
}

function checkSizes({ vocabSize, length, depth, facts }: NeedleOptions & { vocabSize: number; facts: number }): void {
  const refuse = (argument: string, wanted: string, given: number, remedy: string): never =>
    fail({ mechanism: 'needle', argument, wanted, given: String(given), remedy });
  const whole = (argument: string, value: number, least: number, remedy: string): void => {
    if (!Number.isInteger(value) || value < least) refuse(argument, `a whole number from ${least}`, value, remedy);
  };
  whole('facts', facts, 1, 'One is the usual needle.');
  // two values at least, and a key for each fact
  whole('vocabSize', vocabSize, 2 + 4 * Math.max(2, facts), 'Take more ids or fewer facts.');
  // each fact leaves the next ones at least five places less
  whole('length', length, 5 * facts, 'The facts and the question have to fit.');
  if (depth !== undefined && !(depth >= 0 && depth <= 1)) refuse('depth', 'from 0 to 1', depth, '0.5 is the middle.');
}
