/** The five parts that every SeqLoom error states. */
export interface ErrorParts {
  /** mechanism, kernel or tool that refuses, e.g. `based-taylor` */
  readonly mechanism: string;
  /** argument at fault, e.g. `key` or `config.heads` */
  readonly argument: string;
  /** what is wanted, to be read after "must be" */
  readonly wanted: string;
  /** what was given */
  readonly given: string;
  /** one sentence that says how to mend it */
  readonly remedy: string;
  /** lower-level error behind this one, if any */
  readonly cause?: unknown;
}

/** An error that names mechanism, argument, what was wanted, what was given and a remedy. */
export class SeqLoomError extends Error {
  readonly mechanism: string;
  readonly argument: string;
  readonly wanted: string;
  readonly given: string;
  readonly remedy: string;

  constructor(parts: ErrorParts) {
    super(
      `${parts.mechanism}: ${parts.argument} must be ${parts.wanted}; got ${parts.given}. ${parts.remedy}`,
      parts.cause === undefined ? undefined : { cause: parts.cause },
    );
    this.name = 'SeqLoomError';
    this.mechanism = parts.mechanism;
    this.argument = parts.argument;
    this.wanted = parts.wanted;
    this.given = parts.given;
    this.remedy = parts.remedy;
  }
}

/** Throws a `SeqLoomError`; use it at the door of an operation, before any work. */
export function fail(parts: ErrorParts): never {
  throw new SeqLoomError(parts);
}
