import { fail } from '@seqloom/core';
import type { Random } from '@seqloom/core';
import { IGNORED } from './task.ts';
import type { SequenceTask, TaskExample } from './task.ts';

/** Options of `carryFact`. */
export interface CarryFactOptions {
  /** number of ids, default 32: the lower half is filler, the upper half are the keys, then the values */
  readonly vocabSize?: number;
  /** keys, all of which the first segment gives a value; default 2 */
  readonly keys?: number;
  /** tokens of a segment, at least `3 keys` */
  readonly segmentLength: number;
  /** segments, from the one with the facts to the one with the questions; 1: both in one */
  readonly segments: number;
}

/**
 * Facts in the first segment, filler, and questions at the very end: what must be carried from segment to segment.
 *
 * Each of the keys is followed by a value of its own in the first segment, the pairs in random order and at random places; all other tokens
 * are random filler, and the last tokens of the last segment are the keys in another order, where their values are asked for.
 *
 * @param options sizes; see `CarryFactOptions` for the defaults
 * @returns a task of length `segments * segmentLength` for `TaskData`, or to draw examples from
 * @throws SeqLoomError when the facts and the questions do not fit a segment, or the keys do not fit the vocabulary
 *
 * @example
 * const data = new TaskData([{ task: carryFact({ segmentLength: 8, segments: 8 }) }], { seed: 1 });
 */
export function carryFact(options: CarryFactOptions): SequenceTask {
  const settings = { vocabSize: 32, keys: 2, ...options };
  checkSizes(settings);
  const { vocabSize, keys, segmentLength, segments } = settings;
  const length = segments * segmentLength;
  const filler = Math.floor(vocabSize / 2);
  const values = vocabSize - filler - keys;

  const example = (random: Random): TaskExample => {
    const ids = Int32Array.from({ length }, () => random.below(filler));
    const labels = new Int32Array(length).fill(IGNORED);
    const held = Array.from({ length: keys }, () => filler + keys + random.below(values));
    // numbers below `keys` are pairs, the others one token of filler; the places of the questions stay free
    const order = random.shuffle(Array.from({ length: segmentLength - 2 * keys }, (_, item) => item));
    let at = 0;
    for (const item of order) {
      if (item < keys) {
        ids[at++] = filler + item;
        ids[at] = held[item]!;
      }
      at++;
    }
    for (const [place, key] of random.shuffle(Array.from({ length: keys }, (_, item) => item)).entries()) {
      ids[length - keys + place] = filler + key;
      labels[length - keys + place] = held[key]!;
    }
    return { ids, labels };
  };
  return { name: `carry-fact ${JSON.stringify(settings, Object.keys(settings).toSorted())}`, vocabSize, length, example };
}

function checkSizes({ vocabSize, keys, segmentLength, segments }: Required<CarryFactOptions>): void {
  const refuse = (argument: string, wanted: string, given: number, remedy: string): never =>
    fail({ mechanism: 'carry-fact', argument, wanted, given: String(given), remedy });
  const whole = (argument: string, value: number, least: number, remedy: string): void => {
    if (!Number.isInteger(value) || value < least) refuse(argument, `a whole number from ${least}`, value, remedy);
  };
  whole('keys', keys, 1, 'Correct keys.');
  whole('segments', segments, 1, 'Correct segments.');
  whole('segmentLength', segmentLength, 3 * keys, 'The pairs and the questions have to fit a segment.');
  // at least two values: half of the ids are filler
  whole('vocabSize', vocabSize, 2 * (keys + 2), 'Take more ids or fewer keys.');
}
