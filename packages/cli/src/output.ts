import { SeqLoomError } from '@seqloom/core';

/** Prints one JSON document, or lines for a person. */
export function print(json: boolean, document: unknown, lines: () => readonly string[]): void {
  process.stdout.write(json ? `${JSON.stringify(document, null, 2)}\n` : `${lines().join('\n')}\n`);
}

/** A plain table: the first row is the head; columns of numbers are right aligned. */
export function table(rows: readonly (readonly (string | number)[])[]): string[] {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en') : cell)));
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const numeric = cells[0]!.map((_, column) => rows.slice(1).every((row) => typeof row[column] === 'number'));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (numeric[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
  return [lines[0]!, widths.map((width) => '-'.repeat(width)).join('  '), ...lines.slice(1)];
}

/** 1536 becomes "1.5 KiB". */
export function readableBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Prints an error for a person (or as JSON) and sets the exit code. */
export function report(error: unknown, json: boolean): void {
  const known = error instanceof SeqLoomError;
  const message = error instanceof Error ? error.message : String(error);
  if (json) {
    const { mechanism, argument, wanted, given, remedy } = known ? error : {};
    process.stderr.write(`${JSON.stringify({ error: { message, ...(known ? { mechanism, argument, wanted, given, remedy } : {}) } })}\n`);
  } else {
    process.stderr.write(`seqloom: ${known ? message : error instanceof Error ? (error.stack ?? message) : message}\n`);
  }
  process.exitCode = 1;
}
