/** Numbers of the laws that every mechanism keeps. */
export type LawNumber = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12;

/** Short names of the laws, as they stand in test titles. */
export const LAW_NAMES: Readonly<Record<LawNumber, string>> = {
  1: 'split',
  2: 'form parity',
  3: 'golden parity',
  4: 'causality',
  5: 'gradient',
  6: 'padding',
  7: 'degenerate',
  8: 'no leak',
  9: 'state',
  10: 'hard numerics',
  11: 'bad input',
  12: 'cost',
};

/** One law as a plain function: it throws a `BrokenLaw` when the subject breaks it. */
export interface Law<Subject> {
  readonly number: LawNumber;
  /** what holds, in a few words */
  readonly title: string;
  /** true, or why the law does not apply to this subject */
  readonly applies?: (subject: Subject) => true | string;
  readonly check: (subject: Subject) => Promise<void>;
  /** false: a sampling run on an emulated GPU leaves it out, since it says little more there than on the other backends */
  readonly sampled?: boolean;
}

/** The title of a law's test after the word `law `; `countLaws` reads it back. */
export function lawTitle(number: LawNumber, title: string): string {
  return `${number} (${LAW_NAMES[number]}): ${title}`;
}

/** A law that does not hold; the message lists every fault found. */
export class BrokenLaw extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(faults.join('\n'));
    this.name = 'BrokenLaw';
    this.faults = faults;
  }
}

/** Throws a `BrokenLaw` when there are faults; nulls are none. */
export function holds(faults: readonly (string | null)[]): void {
  const found = faults.filter((fault) => fault !== null);
  if (found.length > 0) throw new BrokenLaw(found);
}
