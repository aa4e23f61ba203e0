import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './workspace.ts';

/** Worst errors of one mechanism against the vectors of the original code, over all vectors, cases and backends. */
export interface GoldenErrors {
  readonly mechanism: string;
  /** names of the vectors, as their suites call them */
  readonly vectors: readonly string[];
  readonly backends: readonly string[];
  /** comparisons made: cases times forms times backends */
  readonly cases: number;
  /** worst relative error of outputs and states, and of gradients; null where the vectors have none */
  readonly forward: number;
  readonly gradient: number | null;
}

/** Where `npm run laws -- --record` keeps them. */
export const goldenErrorFile = join(root, 'tools/golden-errors.json');

/** The errors recorded last. */
export function recordedErrors(): ReadonlyMap<string, GoldenErrors> {
  if (!existsSync(goldenErrorFile)) return new Map();
  const recorded = JSON.parse(readFileSync(goldenErrorFile, 'utf8')) as GoldenErrors[];
  return new Map(recorded.map((errors) => [errors.mechanism, errors]));
}

interface ReportLine {
  readonly mechanism: string;
  readonly op: string;
  readonly backend: string;
  readonly forward: { readonly error: number };
  readonly gradient: { readonly error: number; readonly name: string };
}

/** The worst of the lines that golden suites wrote, per mechanism. */
export function worstErrors(jsonLines: string): GoldenErrors[] {
  const lines = jsonLines
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as ReportLine);
  const digits = (value: number): number => Number(value.toPrecision(2));
  return [...new Set(lines.map(({ mechanism }) => mechanism))].toSorted().map((mechanism) => {
    const own = lines.filter((line) => line.mechanism === mechanism);
    const withGradient = own.filter(({ gradient }) => gradient.name !== 'none');
    return {
      mechanism,
      vectors: [...new Set(own.map(({ op }) => op))].toSorted(),
      backends: [...new Set(own.map(({ backend }) => backend))].toSorted(),
      cases: own.length,
      forward: digits(Math.max(...own.map(({ forward }) => forward.error))),
      gradient: withGradient.length > 0 ? digits(Math.max(...withGradient.map(({ gradient }) => gradient.error))) : null,
    };
  });
}

/** The errors as a table for the terminal. */
export function goldenTable(errors: readonly GoldenErrors[]): string {
  const exponent = (value: number | null): string => value?.toExponential(1) ?? '-';
  const rows = [
    ['golden vectors of', 'comparisons', 'backends', 'worst forward', 'worst gradient'],
    ...errors.map(({ mechanism, cases, backends, forward, gradient }) => [
      mechanism,
      String(cases),
      backends.join(' '),
      exponent(forward),
      exponent(gradient),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
