import type { SkippedPeer } from '../peers/load.ts';

/** Numbers of one call by output name. */
export type Outputs = Readonly<Record<string, ArrayLike<number>>>;

/** One way to do the work of a case. */
export interface Candidate {
  /** `seqloom` for ours, `composed` for ours on tfjs ops alone, else the peer's name */
  readonly name: string;
  /** tfjs backend that has to be current, for candidates that run on tfjs */
  readonly backend?: string;
  /** what does the work, where the kernel report does not say it, e.g. an operator's name */
  readonly implementation?: string;
  /** one call; its results are freed */
  run(): void | Promise<void>;
  /** what makes its calls possible, before they are timed; called whenever its turn comes */
  enter?(): void;
  /** waits for what `run` only began, as calls of a GPU do; the first call of such a candidate compiles, and says nothing about time */
  finish?(): Promise<void>;
  /** what its outputs are held to, where they are others than the case's */
  readonly checks?: readonly ((outputs: Outputs) => string | null)[];
  /** its own work, where it is not the case's */
  readonly work?: Work;
  /** figures of one call that are no times, for the columns beside them */
  count?(): Promise<Readonly<Record<string, number>>>;
  /** the results of one call */
  outputs(): Outputs | Promise<Outputs>;
  dispose?(): void;
}

/** Arithmetic and traffic of one call. */
export interface Work {
  /** floating-point operations that the method needs, a multiplication and an addition counting two */
  readonly flops?: number;
  /** bytes of all inputs and outputs, each once */
  readonly bytes?: number;
  readonly tokens?: number;
}

/** The candidates of a case with what their results are held to. */
export interface Prepared {
  readonly candidates: readonly Candidate[];
  /** each says what is wrong with the outputs of a call, or null */
  readonly checks: readonly ((outputs: Outputs) => string | null)[];
  /** largest relative rms difference between two candidates; default 1e-4 */
  readonly agreement?: number;
  /** peers that sit this case out */
  readonly skipped?: readonly SkippedPeer[];
  /** facts that belong beside the times, by candidate name */
  readonly facts?: Readonly<Record<string, Readonly<Record<string, number>>>>;
  dispose?(): void;
}

/** One row group of a suite. */
export interface Case {
  readonly name: string;
  /** the curve that this case is a point of */
  readonly series?: string;
  /** its place on the curve's axis */
  readonly x?: number;
  readonly work: Work;
  /** how many times the milliseconds that others get: where calls are long and little is to be told apart (1) */
  readonly budgets?: number;
  /** whether one call of ours is also measured kernel by kernel */
  readonly profiled?: boolean;
  /** makes inputs and candidates; called when the case's turn comes, so that only one case holds memory */
  prepare(): Prepared | Promise<Prepared>;
}

/** The name of our own candidate, which ratios are taken to. */
export const OURS = 'seqloom';
/** Our forward without its gradient, timed in turns with both. */
export const FORWARD_ALONE = 'forward alone';
/** The same ops on plain tfjs-wasm, kernels-wasm left out. */
export const COMPOSED = 'composed';
