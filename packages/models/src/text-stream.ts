/** Turns ids into text and text into ids; `@seqloom/train` has a byte and a file-based one, others fit too. */
export interface TextCodec {
  readonly vocabSize: number;
  encode(text: string): ArrayLike<number>;
  decode(ids: readonly number[]): string;
}

/**
 * The text of one row as it grows: emits only what can no longer change, and holds back what may begin a stop string.
 */
export class TextStream {
  /** all text emitted so far */
  text = '';
  private readonly ids: number[] = [];
  private readonly codec: TextCodec;
  private readonly stops: readonly string[];

  constructor(codec: TextCodec, stops: readonly string[]) {
    this.codec = codec;
    this.stops = stops;
  }

  /**
   * Takes the next id.
   *
   * @returns text that is now certain, and whether a stop string was completed (the text then ends before it)
   */
  push(id: number): { text: string; stopped: boolean } {
    this.ids.push(id);
    return this.emit(false);
  }

  /** Everything that was held back. */
  flush(): string {
    return this.emit(true).text;
  }

  private emit(last: boolean): { text: string; stopped: boolean } {
    const whole = this.codec.decode(this.ids);
    const cut = this.stops.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0);
    if (cut.length > 0) return { text: this.advance(whole.slice(0, Math.min(...cut))), stopped: true };
    if (last) return { text: this.advance(whole), stopped: false };
    // an unfinished character decodes to replacement characters at the end
    let end = whole.length;
    while (end > 0 && whole.length - end < 3 && whole[end - 1] === '\uFFFD') end--;
    for (const stop of this.stops) {
      for (let size = Math.min(stop.length - 1, end); size > 0; size--) {
        if (stop.startsWith(whole.slice(end - size, end))) {
          end -= size;
          break;
        }
      }
    }
    return { text: this.advance(whole.slice(0, end)), stopped: false };
  }

  private advance(certain: string): string {
    const fresh = certain.slice(this.text.length);
    if (fresh !== '') this.text = certain;
    return fresh;
  }
}
