import { fail } from '@seqloom/core';
import type { Random } from '@seqloom/core';
import { IGNORED } from './task.ts';
import type { SequenceTask, TaskExample } from './task.ts';

/** Options of `selectiveCopying`. */
export interface SelectiveCopyingOptions {
  /** number A of ids, default 16: 0 is noise, 1 to A - 2 are tokens to copy, A - 1 is the marker */
  readonly vocabSize?: number;
  /** noise tokens L */
  readonly noise: number;
  /** tokens to copy M, and so the markers at the end */
  readonly tokens: number;
  /** tokens stand at places drawn anew for each example, default true; false: in front, all noise after them, plain copying */
  readonly selective?: boolean;
}

/**
 * Selective copying: M tokens scattered in noise, then M markers, at which the tokens are asked for in their order.
 *
 * The first `L + M` tokens are zeros with the M tokens at a uniformly drawn set of places, the last M are markers; the label of the i-th
 * marker is the i-th token. A system whose dynamics do not depend on its input cannot tell tokens from noise by place; with
 * `selective: false` it can.
 *
 * @param options sizes; see `SelectiveCopyingOptions` for the defaults
 * @returns a task of length `L + 2 M` for `TaskData`, or to draw examples from
 * @throws SeqLoomError when a size makes no sense
 * @see Gu & Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv 2312.00752
 *
 * @example
 * const data = new TaskData([{ task: selectiveCopying({ vocabSize: 16, noise: 64, tokens: 8 }) }], { seed: 1 });
 */
export function selectiveCopying(options: SelectiveCopyingOptions): SequenceTask {
  const settings = { vocabSize: 16, selective: true, ...options };
  checkSizes(settings);
  const { vocabSize, noise, tokens, selective } = settings;
  const [context, length] = [noise + tokens, noise + 2 * tokens];

  const example = (random: Random): TaskExample => {
    const ids = new Int32Array(length).fill(vocabSize - 1, context);
    const labels = new Int32Array(length).fill(IGNORED);
    let asked = 0;
    for (let at = 0; at < context && asked < tokens; at++) {
      // tokens left over places left: every set of places has the same chance
      if (selective && random.below(context - at) >= tokens - asked) continue;
      ids[at] = 1 + random.below(vocabSize - 2);
      labels[context + asked++] = ids[at]!;
    }
    return { ids, labels };
  };
  return { name: `selective-copying ${JSON.stringify(settings, Object.keys(settings).toSorted())}`, vocabSize, length, example };
}

function checkSizes(sizes: { vocabSize: number; noise: number; tokens: number }): void {
  const least = { vocabSize: 3, noise: 0, tokens: 1 } as const;
  for (const argument of ['vocabSize', 'noise', 'tokens'] as const) {
    if (Number.isInteger(sizes[argument]) && sizes[argument] >= least[argument]) continue;
    fail({
      mechanism: 'selective-copying',
      argument,
      wanted: `a whole number from ${least[argument]}`,
      given: String(sizes[argument]),
      remedy: `Correct ${argument}.`,
    });
  }
}
