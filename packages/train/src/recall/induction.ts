import { fail } from '@seqloom/core';
import type { Random } from '@seqloom/core';
import { IGNORED } from './task.ts';
import type { SequenceTask, TaskExample } from './task.ts';

/** Options of `induction`. */
export interface InductionOptions {
  /** number of ids, all of them ordinary, default 16 */
  readonly vocabSize?: number;
  /** tokens of a sequence */
  readonly length: number;
  /** tokens that come back, default 2: a bigram */
  readonly trigger?: number;
}

/**
 * Induction: some tokens of a random sequence come back at its end, and the token that followed them the first time is asked.
 *
 * The trigger is drawn anew for each example, its tokens differ, and it stands exactly twice: once at a uniformly drawn place, where any
 * token may follow it, and as the last tokens. All else is uniform, but for the tokens that would complete the trigger a third time.
 *
 * @param options sizes; see `InductionOptions` for the defaults
 * @returns a task for `TaskData`, or to draw examples from
 * @throws SeqLoomError when the trigger does not fit twice, or has more tokens than there are ids
 * @see Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv 2209.11895; Fu et al. 2022, "Hungry Hungry Hippos", arXiv 2212.14052
 *
 * @example
 * const data = new TaskData([{ task: induction({ length: 256 }) }], { seed: 1 });
 */
export function induction(options: InductionOptions): SequenceTask {
  const settings = { vocabSize: 16, trigger: 2, ...options };
  checkSizes(settings);
  const { vocabSize, length, trigger } = settings;
  const last = length - trigger;

  const example = (random: Random): TaskExample => {
    const tokens = random.shuffle(Array.from({ length: vocabSize }, (_, id) => id)).slice(0, trigger);
    const first = random.below(last - trigger);
    const ids = new Int32Array(length);
    const labels = new Int32Array(length).fill(IGNORED);
    const end = tokens[trigger - 1]!;
    for (let at = 0; at < last; at++) {
      if (at === first) {
        ids.set(tokens, at);
        at += trigger - 1;
        continue;
      }
      // tokens that differ cannot overlap with themselves, so only a trigger that ends here has to be kept out
      const completes = tokens.slice(0, -1).every((token, i) => ids[at - trigger + 1 + i] === token);
      const id = random.below(completes ? vocabSize - 1 : vocabSize);
      ids[at] = completes && id >= end ? id + 1 : id;
    }
    ids.set(tokens, last);
    labels[length - 1] = ids[first + trigger]!;
    return { ids, labels };
  };
  return { name: `induction ${JSON.stringify(settings, Object.keys(settings).toSorted())}`, vocabSize, length, example };
}

function checkSizes({ vocabSize, length, trigger }: Required<InductionOptions>): void {
  const whole = (argument: string, value: number, least: number, remedy: string): void => {
    if (Number.isInteger(value) && value >= least) return;
    fail({ mechanism: 'induction', argument, wanted: `a whole number from ${least}`, given: String(value), remedy });
  };
  whole('trigger', trigger, 1, 'Two tokens are a bigram.');
  whole('vocabSize', vocabSize, Math.max(3, trigger), 'Take more ids or a shorter trigger.');
  whole('length', length, 2 * trigger + 1, 'The trigger has to fit twice, with a token between.');
}
