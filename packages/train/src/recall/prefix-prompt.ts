import { fail } from '@seqloom/core';
import type { Random } from '@seqloom/core';
import { IGNORED } from './task.ts';

/** Parts of a prompt whose context is read more than once, each as ids. */
export interface RepeatedPrompt {
  /** what will be asked, in front of everything; default none */
  readonly hint?: ArrayLike<number>;
  readonly context: ArrayLike<number>;
  /** between the copies, a line break for example; default none */
  readonly separator?: ArrayLike<number>;
  /** question or cue at the end; default none */
  readonly question?: ArrayLike<number>;
  /** how often the context stands there, default 2 */
  readonly times?: number;
}

/**
 * A prompt with its context repeated, `hint, context, separator, context, question`, so that a recurrent model knows what to keep.
 *
 * @returns the ids of the whole prompt, `times` as long as the context plus the rest
 * @throws SeqLoomError when the context is empty or `times` is no whole number from 1
 * @see Arora et al. 2024, "Just read twice: closing the recall gap for recurrent language models", arXiv 2407.05483
 */
export function repeatContext(prompt: RepeatedPrompt): Int32Array {
  const { hint = [], context, separator = [], question = [], times = 2 } = prompt;
  if (!Number.isInteger(times) || times < 1) refuse('times', 'a whole number from 1', times, 'Twice is what the paper does.');
  if (context.length === 0) refuse('context', 'at least one id', 0, 'Pass the text that the question is about.');
  const copies = Array.from({ length: times }, (_, copy) => (copy === 0 ? [context] : [separator, context])).flat();
  return Int32Array.from([hint, ...copies, question].flatMap((part) => Array.from(part)));
}

/** A text prepared for prefix-LM training; both labels are for the same call on `ids`. */
export interface MaskedPrefix {
  /** [length], some ids of the prefix replaced by the mask's */
  readonly ids: Int32Array;
  /** [length], the id that the mask hides, -100 elsewhere */
  readonly maskedLabels: Int32Array;
  /** [length], the next id from the end of the prefix on, -100 before it and at the last token */
  readonly nextLabels: Int32Array;
}

/**
 * Hides ids of a prefix for prefix-LM training: each of the first `prefixLength` ids becomes `maskId` with probability `rate`.
 *
 * The loss of the paper is the next-token loss with `nextLabels` plus 0.25 times the loss with `maskedLabels`. Ids that are not hidden
 * carry no masked label, as the model sees them.
 *
 * @param ids one text
 * @param options length of the prefix, below that of the text; id of the mask; rate, default 0.15
 * @throws SeqLoomError when the prefix leaves no next token to learn, or the rate is not from 0 to 1
 * @see Arora et al. 2024, arXiv 2407.05483
 */
export function maskPrefix(
  ids: ArrayLike<number>,
  options: { readonly prefixLength: number; readonly maskId: number; readonly rate?: number },
  random: Random,
): MaskedPrefix {
  const { prefixLength, maskId, rate = 0.15 } = options;
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > ids.length - 2)
    refuse('prefixLength', `from 0 to ${ids.length - 2}`, prefixLength, 'Keep the prefix shorter than the text.');
  if (!(rate >= 0 && rate <= 1)) refuse('rate', 'from 0 to 1', rate, 'The usual share is 0.15.');
  const result = {
    ids: Int32Array.from(ids),
    maskedLabels: new Int32Array(ids.length).fill(IGNORED),
    nextLabels: new Int32Array(ids.length).fill(IGNORED),
  };
  for (let i = 0; i < prefixLength; i++) {
    if (random.uniform() >= rate) continue;
    result.ids[i] = maskId;
    result.maskedLabels[i] = ids[i]!;
  }
  for (let i = prefixLength; i < ids.length - 1; i++) result.nextLabels[i] = ids[i + 1]!;
  return result;
}

function refuse(argument: string, wanted: string, given: number, remedy: string): never {
  return fail({ mechanism: 'data', argument, wanted, given: String(given), remedy });
}
