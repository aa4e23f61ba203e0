// a string, or a word that Python writes for numbers that JSON does not have
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g;
const MEANINGS: Readonly<Record<string, string>> = { Infinity: '1e999', '-Infinity': '-1e999', NaN: 'null' };

/**
 * Parses JSON as Python writes it: `Infinity` and `-Infinity` are numbers, `NaN` becomes null.
 *
 * @throws SyntaxError when it is no JSON
 */
export function parsePythonJson(text: string): unknown {
  return JSON.parse(text.replace(TOKENS, (token) => MEANINGS[token] ?? token));
}

/** Formats JSON as Python reads it, two spaces deep. */
export function formatPythonJson(value: unknown): string {
  const mark = '\u0000infinite\u0000';
  const text = JSON.stringify(
    value,
    (_key, item: unknown) => (item === Infinity || item === -Infinity ? `${mark}${String(item)}` : item),
    2,
  );
  return `${text.replaceAll(new RegExp(`"${JSON.stringify(mark).slice(1, -1).replaceAll('\\', '\\\\')}(-?Infinity)"`, 'g'), '$1')}\n`;
}
