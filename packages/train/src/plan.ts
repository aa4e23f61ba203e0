/** What is known when the number of steps is decided. */
export interface Pace {
  /** seconds of each measured step */
  readonly stepSeconds: readonly number[];
  /** seconds of one evaluation and of one checkpoint */
  readonly evaluationSeconds: number;
  readonly checkpointSeconds: number;
  /** seconds used so far, over all starts */
  readonly used: number;
  /** seconds that the run may take */
  readonly allowed: number;
  /** steps done */
  readonly done: number;
  readonly evaluationsLeft: number;
  readonly checkpointsLeft: number;
}

/**
 * Number of steps with which a run of limited time ends on time, from the pace so far.
 *
 * `done + (allowed - used - evaluations - checkpoints) / (seconds of a step)`; the mean of the steps counts, since slow ones come again,
 * but one step of more than four medians (a compilation) does not.
 *
 * @returns a whole number, at least one more than what is done
 */
export function plannedSteps(pace: Pace): number {
  const sorted = pace.stepSeconds.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  const usual = sorted.filter((seconds) => seconds <= 4 * median);
  const mean = usual.reduce((sum, seconds) => sum + seconds, 0) / usual.length;
  const reserve = pace.evaluationsLeft * pace.evaluationSeconds + pace.checkpointsLeft * pace.checkpointSeconds;
  // two in a hundred are kept back for what was not measured
  const room = 0.98 * (pace.allowed - pace.used) - reserve;
  return pace.done + Math.max(1, Math.floor(room / Math.max(mean, 1e-6)));
}
