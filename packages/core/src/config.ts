import * as v from 'valibot';
import { fail } from './error.ts';

/**
 * Validates a plain JSON config at a constructor's door.
 *
 * @param mechanism name for the error, e.g. `based-taylor`
 * @param schema a valibot schema; use `v.strictObject`, so that unknown keys are refused
 * @param given what the user passed
 * @returns the config with defaults filled in, frozen
 * @throws SeqLoomError naming the first key at fault
 */
export function parseConfig<const S extends v.GenericSchema>(mechanism: string, schema: S, given: unknown): Readonly<v.InferOutput<S>> {
  const result = v.safeParse(schema, given, { abortEarly: true });
  if (result.success) return Object.freeze(result.output);
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  const key = path ? `config.${path}` : 'config';
  // valibot reports an unknown key as a "never" expected at that key
  if (issue.expected === 'never') {
    return fail({
      mechanism,
      argument: key,
      wanted: 'absent: this key is unknown',
      given: JSON.stringify(issue.input) ?? 'undefined',
      remedy: `Remove it; known keys are ${knownKeys(schema, issue).join(', ') || 'in the documentation'}.`,
    });
  }
  // and a key that is missing as its own name expected
  if (issue.kind === 'schema' && issue.received === 'undefined' && issue.expected === JSON.stringify(issue.path?.at(-1)?.key)) {
    return fail({ mechanism, argument: key, wanted: 'given', given: 'nothing', remedy: 'It has no default; see the config type.' });
  }
  return fail({
    mechanism,
    argument: key,
    wanted: issue.expected ? readable(issue) : issue.message,
    given: issue.received,
    remedy: 'See the config type for the keys and their defaults.',
  });
}

function readable(issue: v.BaseIssue<unknown>): string {
  const { expected, requirement } = issue as { expected: string; requirement?: unknown };
  return issue.kind === 'validation' && typeof requirement === 'function' ? issue.message : expected;
}

function knownKeys(schema: v.GenericSchema, issue: v.BaseIssue<unknown>): string[] {
  let current: unknown = schema;
  for (const step of issue.path?.slice(0, -1) ?? []) current = descend(current, String((step as { key: unknown }).key));
  const entries = unwrap(current)?.entries;
  return entries ? Object.keys(entries) : [];
}

interface SchemaLike {
  entries?: Record<string, unknown>;
  wrapped?: unknown;
  item?: unknown;
}

function unwrap(schema: unknown): SchemaLike | undefined {
  let current = schema as SchemaLike | undefined;
  while (current?.wrapped) current = current.wrapped as SchemaLike;
  return current;
}

function descend(schema: unknown, key: string): unknown {
  const current = unwrap(schema);
  return current?.entries?.[key] ?? current?.item;
}

/** Schema of a whole number of at least 1. */
export const positiveInteger = v.pipe(v.number(), v.integer('a whole number'), v.minValue(1, 'at least 1'));
/** Schema of a whole number of at least 0. */
export const naturalNumber = v.pipe(v.number(), v.integer('a whole number'), v.minValue(0, 'at least 0'));
/** Schema of a finite number above 0. */
export const positiveNumber = v.pipe(v.number(), v.finite('finite'), v.gtValue(0, 'above 0'));

/** What every layer's config has: spread it into the `v.strictObject` of a layer. */
export const layerEntries = {
  /** width of input and output */
  dim: positiveInteger,
  /** of the random numbers that fill the parameters */
  seed: v.optional(v.number(), 0),
  /** standard deviation of the output projection at the start */
  outputDeviation: v.optional(v.number()),
};

/**
 * Refuses a head count that does not divide a width.
 *
 * @returns `width / heads`
 */
export function divideHeads(mechanism: string, width: number, heads: number, argument = 'config.heads'): number {
  if (width % heads !== 0) {
    fail({
      mechanism,
      argument,
      wanted: `a divisor of ${width}`,
      given: String(heads),
      remedy: `Choose a head count that divides ${width}, or give the head width explicitly.`,
    });
  }
  return width / heads;
}
