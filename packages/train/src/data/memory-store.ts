import { fail } from '@seqloom/core';
import { ByteTokeniser } from './byte-tokeniser.ts';
import type { Tokeniser } from './byte-tokeniser.ts';
import { fingerprint } from './fingerprint.ts';
import { splitPoint } from './token-store.ts';
import type { TokenStore } from './token-store.ts';

/**
 * A text that is in memory as a token store, for browsers and tests.
 *
 * @param text what to train on
 * @param options tokeniser, and the share at the end that is held out (default 0.05)
 */
export async function memoryStore(
  text: string,
  options: { readonly tokeniser: Tokeniser; readonly heldOut?: number },
): Promise<TokenStore> {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length === 0) {
    fail({ mechanism: 'data', argument: 'text', wanted: 'a text', given: 'an empty one', remedy: 'Pass text to train on.' });
  }
  let at = splitPoint(bytes.length, options.heldOut ?? 0.05);
  const whole = options.tokeniser instanceof ByteTokeniser;
  // a tokeniser of characters must not see half of one
  while (!whole && at > 0 && (bytes[at]! & 0xc0) === 0x80) at--;
  const encode = (part: Uint8Array): Int32Array =>
    whole ? Int32Array.from(part) : options.tokeniser.encode(new TextDecoder('utf-8', { ignoreBOM: true }).decode(part));
  const training = encode(bytes.subarray(0, at));
  const heldOut = encode(bytes.subarray(at));
  const tokens = new Int32Array(training.length + heldOut.length);
  tokens.set(training);
  tokens.set(heldOut, training.length);
  return {
    vocabSize: options.tokeniser.vocabSize,
    count: tokens.length,
    trainCount: training.length,
    trainBytes: at,
    heldOutBytes: bytes.length - at,
    fingerprint: await fingerprint(bytes),
    read: (from, count) => Promise.resolve(tokens.slice(from, from + count)),
    close: () => Promise.resolve(),
  };
}
