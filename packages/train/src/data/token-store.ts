/** Tokens that can be read by position: a training part, then a held-out part. */
export interface TokenStore {
  /** ids are below it */
  readonly vocabSize: number;
  /** all tokens */
  readonly count: number;
  /** tokens of the training part, which comes first */
  readonly trainCount: number;
  /** bytes of text behind the training tokens */
  readonly trainBytes: number;
  /** bytes of text behind the held-out tokens */
  readonly heldOutBytes: number;
  /** changes when the text changes */
  readonly fingerprint: string;
  /** reads `count` tokens from position `from` on */
  read(from: number, count: number): Promise<Int32Array>;
  /** frees what the store holds open */
  close(): Promise<void>;
}

/** First held-out byte or token of `count`, for a held-out share. */
export function splitPoint(count: number, heldOut: number): number {
  return Math.floor(count * (1 - heldOut));
}
