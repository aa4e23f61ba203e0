import { deriveSeed, fail } from '@seqloom/core';
import { permutation } from './permutation.ts';
import type { TokenStore } from './token-store.ts';

/** Tokens and labels of one piece of work, row after row. */
export interface TokenBatch {
  /** [rows, length] */
  readonly ids: Int32Array;
  /** [rows, length], the next token of each; negative: does not count */
  readonly labels: Int32Array;
  readonly rows: number;
  readonly length: number;
  /** labels that count */
  readonly tokens: number;
}

/** Where a data source stands; plain JSON. With the seed it fixes everything that comes after. */
export interface DataPosition {
  readonly epoch: number;
  /** windows of the epoch already given out */
  readonly offset: number;
  readonly seed: number;
  /** window length in tokens */
  readonly length: number;
  /** fingerprint of the text */
  readonly text: string;
}

/** How held-out text is cut. */
export interface EvaluationOptions {
  /** tokens before each scored piece that give context but no score, default half a window */
  readonly overlap?: number;
  /** scores at most this many tokens, spread evenly over the part; default all */
  readonly maxTokens?: number;
}

/** What a trainer needs of data; `WindowData` has it. */
export interface TrainingData {
  readonly vocabSize: number;
  /** mean bytes of text per training token */
  readonly bytesPerToken: number;
  /** mean bytes of text per held-out token */
  readonly heldOutBytesPerToken: number;
  /** the next batch; goes on for ever */
  nextBatch(rows: number): Promise<TokenBatch>;
  /** where the next batch starts */
  readonly position: DataPosition;
  /** continues from a saved position */
  seek(position: DataPosition): void;
  /** the held-out part, each token once */
  evaluation(rows: number, options?: EvaluationOptions): AsyncIterable<TokenBatch>;
}

/**
 * Windows of a token store: shuffled anew in every epoch for training, in order for evaluation.
 *
 * An epoch starts at a random phase, so that windows are cut elsewhere each time. Only the windows of one batch are in memory, and order
 * and phase follow from (seed, epoch), so (epoch, offset) is the whole position.
 */
export class WindowData implements TrainingData {
  readonly store: TokenStore;
  readonly length: number;
  readonly seed: number;
  private epoch = 0;
  private offset = 0;
  private plan: { readonly epoch: number; readonly phase: number; readonly count: number; readonly at: (index: number) => number } | null =
    null;

  /**
   * @param store the tokens; closing it stays the caller's
   * @param options window length in tokens, and the seed of the order (default 0)
   * @throws SeqLoomError when the text is shorter than one window
   */
  constructor(store: TokenStore, options: { readonly length: number; readonly seed?: number }) {
    const { length, seed = 0 } = options;
    if (!Number.isInteger(length) || length < 1) {
      const remedy = 'Usual lengths are 128 to 2048.';
      fail({ mechanism: 'data', argument: 'length', wanted: 'a whole number of tokens from 1', given: String(length), remedy });
    }
    if (store.trainCount < length + 1 || store.count === store.trainCount) {
      fail({
        mechanism: 'data',
        argument: 'text',
        wanted: `long enough for one window of ${length + 1} training tokens and a held-out part`,
        given: `${store.trainCount} training and ${store.count - store.trainCount} held-out tokens`,
        remedy: 'Use a longer text or shorter windows.',
      });
    }
    this.store = store;
    this.length = length;
    this.seed = seed;
  }

  get vocabSize(): number {
    return this.store.vocabSize;
  }

  get bytesPerToken(): number {
    return this.store.trainBytes / this.store.trainCount;
  }

  get heldOutBytesPerToken(): number {
    return this.store.heldOutBytes / (this.store.count - this.store.trainCount);
  }

  get position(): DataPosition {
    return { epoch: this.epoch, offset: this.offset, seed: this.seed, length: this.length, text: this.store.fingerprint };
  }

  seek(position: DataPosition): void {
    const own = this.position;
    for (const key of ['text', 'length', 'seed'] as const) {
      if (position[key] === own[key]) continue;
      fail({
        mechanism: 'data',
        argument: `position.${key}`,
        wanted: String(own[key]),
        given: String(position[key]),
        remedy: 'Resume with the text, window length and seed that the run was started with.',
      });
    }
    this.epoch = position.epoch;
    this.offset = position.offset;
  }

  async nextBatch(rows: number): Promise<TokenBatch> {
    const starts: number[] = [];
    let { epoch, offset } = this;
    while (starts.length < rows) {
      const plan = this.planOf(epoch);
      if (offset >= plan.count) {
        epoch++;
        offset = 0;
        continue;
      }
      starts.push(plan.phase + plan.at(offset++) * this.length);
    }
    const windows = await Promise.all(starts.map((start) => this.store.read(start, this.length + 1)));
    // only now, so that a failed read can be tried again
    this.epoch = epoch;
    this.offset = offset;
    const ids = new Int32Array(rows * this.length);
    const labels = new Int32Array(rows * this.length);
    for (const [row, window] of windows.entries()) {
      ids.set(window.subarray(0, this.length), row * this.length);
      labels.set(window.subarray(1), row * this.length);
    }
    return { ids, labels, rows, length: this.length, tokens: rows * this.length };
  }

  async *evaluation(rows: number, options: EvaluationOptions = {}): AsyncGenerator<TokenBatch, void, undefined> {
    const overlap = options.overlap ?? Math.floor(this.length / 2);
    if (!Number.isInteger(overlap) || overlap < 0 || overlap >= this.length) {
      const remedy = 'Leave room for tokens that are scored.';
      fail({ mechanism: 'data', argument: 'overlap', wanted: `from 0 to ${this.length - 1}`, given: String(overlap), remedy });
    }
    const fresh = this.length - overlap;
    const { trainCount, count } = this.store;
    const pieces = Math.ceil((count - trainCount) / fresh);
    const chosen = Math.min(pieces, Math.max(1, Math.ceil((options.maxTokens ?? Infinity) / fresh)));
    for (let first = 0; first < chosen; first += rows) {
      const group = Array.from({ length: Math.min(rows, chosen - first) }, (_, i) => Math.floor(((first + i) * pieces) / chosen));
      const ids = new Int32Array(group.length * this.length);
      const labels = new Int32Array(group.length * this.length).fill(-1);
      let tokens = 0;
      for (const [row, piece] of group.entries()) {
        // scored tokens [from, to); the token before each is its input, so the training part lends the first context
        const from = trainCount + piece * fresh;
        const to = Math.min(from + fresh, count);
        const start = Math.max(0, from - overlap - 1);
        const window = await this.store.read(start, to - start);
        ids.set(window.subarray(0, window.length - 1), row * this.length);
        for (let at = from; at < to; at++) labels[row * this.length + (at - 1 - start)] = window[at - start]!;
        tokens += to - from;
      }
      yield { ids, labels, rows: group.length, length: this.length, tokens };
    }
  }

  private planOf(epoch: number): NonNullable<WindowData['plan']> {
    if (this.plan?.epoch !== epoch) {
      const room = this.store.trainCount - 1 - this.length;
      const phase = deriveSeed(this.seed, `phase.${epoch}`) % (Math.min(room, this.length - 1) + 1);
      const count = Math.floor((this.store.trainCount - 1 - phase) / this.length);
      this.plan = { epoch, phase, count, at: permutation(count, deriveSeed(this.seed, `epoch.${epoch}`)) };
    }
    return this.plan;
  }
}
