import type { Random } from '@seqloom/core';

/** One sequence and what a model should answer in it. */
export interface TaskExample {
  /** [length] */
  readonly ids: Int32Array;
  /** [length], what the model should put out at that very position; -100: nothing is asked there */
  readonly labels: Int32Array;
}

/** A generator of examples of one length; everything random comes from the `Random` that it is handed. */
export interface SequenceTask {
  /** what it is, with its sizes; takes part in the fingerprint of the data */
  readonly name: string;
  /** ids and labels are below it */
  readonly vocabSize: number;
  /** tokens of an example */
  readonly length: number;
  example(random: Random): TaskExample;
}

/** The label of positions that do not count. */
export const IGNORED = -100;
