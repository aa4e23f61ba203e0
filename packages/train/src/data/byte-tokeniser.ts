/** Turns text into ids and back; every tokeniser of this package, and any object of this shape, fits. */
export interface Tokeniser {
  /** ids are below it */
  readonly vocabSize: number;
  /** tells this tokeniser from others, for caches of its tokens; default: made from a probe */
  readonly fingerprint?: string;
  /** id that ends a text, if there is one */
  readonly endId?: number | undefined;
  /** @param options `addSpecial`: put the special tokens of the tokeniser around the text, default false */
  encode(text: string, options?: { readonly addSpecial?: boolean }): Int32Array;
  /** @param options `skipSpecial`: leave special tokens out of the text, default true */
  decode(ids: ArrayLike<number>, options?: { readonly skipSpecial?: boolean }): string;
}

/** One id per byte of UTF-8, 0 to 255; bytes that are no character decode to U+FFFD. */
export class ByteTokeniser implements Tokeniser {
  readonly vocabSize = 256;

  encode(text: string): Int32Array {
    return Int32Array.from(new TextEncoder().encode(text));
  }

  decode(ids: ArrayLike<number>): string {
    // the byte order mark is a character like any other here
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(ids));
  }
}
