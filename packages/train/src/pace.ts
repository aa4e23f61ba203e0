/** Where a run stands, as far as its pace is concerned. */
interface Progress {
  readonly step: number;
  readonly total: number | null;
}

// older steps say little about the machine's load now
const WINDOW = 200;

/**
 * Measures how fast steps go, and turns a time limit into a number of steps: once after a first probe, mended at each quarter.
 */
export class Pace {
  /** seconds of the last evaluation and of the last checkpoint */
  evaluationSeconds = 0;
  checkpointSeconds = 0;
  private readonly allowed: number | null;
  private readonly recent: number[] = [];
  private first: number | null = null;
  private sum = 0;
  private count = 0;
  private plans = 0;

  /** @param allowed seconds that the whole run may take; null when the number of steps is given */
  constructor(allowed: number | null) {
    this.allowed = allowed;
  }

  /** Takes the seconds of a step. The first one also compiles, and counts only until there is another. */
  add(seconds: number): void {
    if (this.first === null) {
      this.first = seconds;
      return;
    }
    this.recent.push(seconds);
    if (this.recent.length > WINDOW) this.recent.shift();
    this.sum += seconds;
    this.count++;
  }

  /** Mean seconds of a step, the first one left out. */
  get meanSeconds(): number {
    return this.count > 0 ? this.sum / this.count : (this.first ?? Number.NaN);
  }

  /** Seconds of steps that are left; null while the total is not known. */
  secondsLeft({ step, total }: Progress): number | null {
    return total === null ? null : (total - step) * this.recentSeconds();
  }

  /** Whether it is time to set or mend the number of steps. */
  isDue({ step, total }: Progress, used: number): boolean {
    if (this.allowed === null || this.plans > 3) return false;
    if (total === null) return this.recent.length >= 3 && used >= Math.min(30, 0.04 * this.allowed);
    return step >= (total * this.plans) / 4;
  }

  /**
   * Number of steps with which the run ends on time.
   *
   * `step + (allowed - used - evaluations - checkpoints) / (seconds of a step)`, with two in a hundred kept back.
   *
   * @param used seconds so far, over all starts
   * @param rest how many evaluations and checkpoints are still to come
   * @returns a whole number, at least one more than what is done
   */
  plan(progress: Progress, used: number, rest: { readonly evaluationsLeft: number; readonly checkpointsLeft: number }): number {
    this.plans++;
    const reserve = rest.evaluationsLeft * this.evaluationSeconds + rest.checkpointsLeft * this.checkpointSeconds;
    const room = 0.98 * ((this.allowed ?? 0) - used) - reserve;
    return progress.step + Math.max(1, Math.floor(room / Math.max(this.recentSeconds(), 1e-6)));
  }

  /** Mean of the last steps; one of more than four medians (another compilation) does not count. */
  private recentSeconds(): number {
    if (this.recent.length === 0) return this.first ?? 0;
    const sorted = this.recent.toSorted((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)]!;
    const usual = sorted.filter((seconds) => seconds <= 4 * median);
    return usual.reduce((sum, seconds) => sum + seconds, 0) / usual.length;
  }
}
