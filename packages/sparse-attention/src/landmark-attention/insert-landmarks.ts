import { checkSetting } from '@seqloom/core';

/**
 * Puts a landmark behind every `blockLength - 1` tokens, so that the last token of every block is one: N tokens become
 * N + floor(N / (blockLength - 1)).
 *
 * @param tokens ids of one sequence
 * @param options blockLength, landmark included, and the landmark's id in the vocabulary
 * @returns ids with landmarks
 * @throws SeqLoomError when a setting does not fit
 */
export function insertLandmarks(
  tokens: ArrayLike<number>,
  { blockLength, landmark }: { readonly blockLength: number; readonly landmark: number },
): number[] {
  const right = Number.isInteger(blockLength) && blockLength >= 2;
  checkSetting('landmark-attention', 'blockLength', right, 'a whole number of at least 2', blockLength, 'Usual: 50 or 64.');
  const ids = Array.from(tokens);
  return ids.flatMap((id, at) => ((at + 1) % (blockLength - 1) === 0 ? [id, landmark] : [id]));
}
