import { fail } from '@seqloom/core';

/** How the learning rate moves over a run; plain JSON. All lengths are in optimiser steps. */
export interface ScheduleOptions {
  /** `constant`; `cosine` to the minimum; `wsd`: warm up, stay, decay at the end. Default `cosine` */
  readonly shape?: 'constant' | 'cosine' | 'wsd';
  /** highest learning rate, default 3e-3 */
  readonly peak?: number;
  /** learning rate at the end and after it, default peak / 100 */
  readonly minimum?: number;
  /** steps of linear warm-up, default a tenth of the run and at most 100 */
  readonly warmup?: number;
  /** steps of the last phase of `wsd`, default a fifth of the run */
  readonly decaySteps?: number;
  /** form of the last phase of `wsd`, default `linear` */
  readonly decay?: 'linear' | '1-sqrt' | 'exponential';
}

const MECHANISM = 'schedule';

/**
 * Refuses a schedule that makes no sense, before any step.
 *
 * @throws SeqLoomError on a negative rate or length, a minimum above the peak, or an unknown name
 */
export function checkSchedule(schedule: ScheduleOptions): void {
  const { shape = 'cosine', peak = 3e-3, warmup = 0, decaySteps = 1, decay = 'linear' } = schedule;
  const minimum = schedule.minimum ?? peak / 100;
  const refuse = (argument: string, wanted: string, given: unknown, remedy: string): never =>
    fail({ mechanism: MECHANISM, argument, wanted, given: String(given), remedy });
  if (!['constant', 'cosine', 'wsd'].includes(shape)) refuse('shape', 'constant, cosine or wsd', shape, 'Use one of these names.');
  if (!['linear', '1-sqrt', 'exponential'].includes(decay))
    refuse('decay', 'linear, 1-sqrt or exponential', decay, 'Use one of these names.');
  if (!(peak > 0 && Number.isFinite(peak))) refuse('peak', 'a finite number above 0', peak, 'Usual peaks are 1e-4 to 1e-2.');
  if (!(minimum >= 0 && minimum <= peak)) refuse('minimum', `between 0 and the peak ${peak}`, minimum, 'Lower the minimum.');
  if (!Number.isInteger(warmup) || warmup < 0) refuse('warmup', 'a whole number of steps from 0', warmup, 'Count the warm-up in steps.');
  if (!Number.isInteger(decaySteps) || decaySteps < 1)
    refuse('decaySteps', 'a whole number of steps from 1', decaySteps, 'Count the decay in steps.');
  if (shape === 'wsd' && decay === 'exponential' && minimum === 0)
    refuse('minimum', 'above 0 for exponential decay', minimum, 'An exponential never reaches 0: name the rate it should end at.');
}

/**
 * The learning rate of a step; a pure function of its arguments.
 *
 * With t the step from 0, w the warm-up, N the total, n the decay steps, a the minimum and b the peak: `b (t + 1) / w` for t < w; then
 * cosine `a + (b - a) (1 + cos(pi (t - w) / (N - w))) / 2`, or for `wsd` b until N - n and from there with p = (t - N + n) / n
 * `a + (b - a) (1 - p)` (linear), `a + (b - a) (1 - sqrt p)` or `b (a / b)^p` (exponential); a from N on.
 *
 * @param total steps of the run; Infinity while it is not known yet
 * @returns the rate to use in step `step`
 */
export function learningRateAt(schedule: ScheduleOptions, step: number, total: number): number {
  const { shape = 'cosine', peak = 3e-3, decay = 'linear' } = schedule;
  const minimum = schedule.minimum ?? peak / 100;
  const warmup = schedule.warmup ?? Math.min(100, Math.ceil(total / 10));
  if (step < warmup && step < total) return (peak * (step + 1)) / warmup;
  if (shape === 'constant') return peak;
  if (step >= total) return minimum;
  if (shape === 'cosine') {
    const progress = (step - warmup) / (total - warmup);
    return minimum + ((peak - minimum) * (1 + Math.cos(Math.PI * progress))) / 2;
  }
  const last = Math.min(schedule.decaySteps ?? Math.ceil(total / 5), total - warmup);
  // an unknown total leaves the end out of reach
  if (total === Infinity || step < total - last) return peak;
  const progress = (step - (total - last)) / last;
  if (decay === 'exponential') return peak * (minimum / peak) ** progress;
  return minimum + (peak - minimum) * (decay === 'linear' ? 1 - progress : 1 - Math.sqrt(progress));
}
