import { fail } from '../error.ts';
import { quote } from './dtype.ts';

/**
 * The object in a JSON text, refused when it is anything else or when a key appears twice in one object.
 *
 * @param argument what to call the text in an error
 * @param remedy what the error advises
 * @throws {SeqLoomError} when the bytes are not UTF-8, not JSON, not an object, or hold a duplicate key
 */
export function parseJsonObject(bytes: Uint8Array, argument: string, remedy: string): Record<string, unknown> {
  const mechanism = 'safetensors';
  let value: unknown;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    fail({ mechanism, argument, wanted: 'valid UTF-8', given: 'other bytes', remedy, cause });
  }
  try {
    value = JSON.parse(text);
  } catch (cause) {
    fail({ mechanism, argument, wanted: 'valid JSON', given: quote(text), remedy, cause });
  }
  if (!isObject(value)) fail({ mechanism, argument, wanted: 'a JSON object', given: quote(value), remedy });
  const twice = duplicateKey(text);
  if (twice !== undefined) fail({ mechanism, argument, wanted: 'free of duplicate keys', given: `${quote(twice)} twice`, remedy });
  return value;
}

/** Whether a parsed JSON value is an object (not an array, not null). */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// JSON.parse keeps the last of two equal keys without a word; the text is known to be valid here, so only strings and brackets matter
function duplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  let expectKey = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '"') {
      const start = i++;
      for (; text[i] !== '"'; i++) if (text[i] === '\\') i++;
      if (!expectKey) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      const keys = open.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
      expectKey = false;
    } else if (char === '{') {
      open.push(new Set());
      expectKey = true;
    } else if (char === '[') {
      open.push(undefined);
      expectKey = false;
    } else if (char === '}' || char === ']') {
      open.pop();
      expectKey = false;
    } else if (char === ',') {
      expectKey = open.at(-1) !== undefined;
    }
  }
  return undefined;
}
