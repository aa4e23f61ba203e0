import { disposeState, fail, keepState, softmaxCrossEntropy } from '@seqloom/core';
import type { State } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import { breathe } from './breathe.ts';
import type { TokenStore } from './data/token-store.ts';
import { bitsPerByte } from './evaluate.ts';
import type { LogitModel } from './recall/accuracy.ts';

/** Options of `perplexity`. */
export interface PerplexityOptions {
  /** what is scored: all of the text (default), or the part that training held out */
  readonly part?: 'all' | 'held-out';
  /** tokens of a window, each of which starts without a state; default: none, one state is carried through the whole part */
  readonly window?: number;
  /** tokens from one window to the next, default half a window: a window scores the tokens that the one before did not reach */
  readonly stride?: number;
  /** windows at a time, default 4 */
  readonly rows?: number;
  /** tokens per forward and row, the state carried from one to the next; default: as many as keep the logits below 64 MiB, at most 512 */
  readonly piece?: number;
  readonly signal?: AbortSignal | undefined;
  /** called after each forward with the tokens scored so far and in all */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Mean loss of the tokens that had so much context. */
export interface PositionLoss {
  /** fewest and most tokens before a token of this group */
  readonly from: number;
  readonly to: number;
  /** mean nats per token */
  readonly loss: number;
  readonly tokens: number;
}

/** Result of `perplexity`. */
export interface Perplexity {
  /** mean nats per token; NaN when nothing was scored */
  readonly loss: number;
  /** `exp(loss)` */
  readonly perplexity: number;
  /** nats over `ln 2` per byte of the scored part */
  readonly bitsPerByte: number;
  /** tokens that were scored; the very first of a text has no context and is not */
  readonly tokens: number;
  /** fewest tokens that any scored one had before it, the start of the text left out */
  readonly leastContext: number;
  /** by context, in groups of about half an octave */
  readonly positions: readonly PositionLoss[];
}

/**
 * How well a model foretells a text, token by token, each scored once and with its context before it.
 *
 * Without a window the state goes through the whole text, so that every token sees all that came before; attention then keeps all of it.
 * With one, window i starts at token `i stride` and scores the tokens that window i - 1 did not reach: after the first window each has at
 * least `window - stride` tokens before it. Windows, too, are read in pieces with the state carried on, so that memory does not grow.
 *
 * @param model gives logits and takes a state; stays as it is
 * @param store tokens; stays open
 * @returns loss, perplexity, bits per byte, and the loss by the length of the context; of what was scored when aborted
 * @throws SeqLoomError when the part has no token with context, or the sizes make no sense
 *
 * @example
 * const { bitsPerByte } = await perplexity(model, await openByteFile('book.txt'), { window: 512, stride: 256 });
 */
export async function perplexity(
  model: LogitModel,
  store: Pick<TokenStore, 'read' | 'count' | 'trainCount' | 'trainBytes' | 'heldOutBytes' | 'vocabSize'>,
  options: PerplexityOptions = {},
): Promise<Perplexity> {
  const { part = 'all', signal, onProgress } = options;
  // the token before a held-out part lends its first label a context
  const start = part === 'all' ? 0 : Math.max(0, store.trainCount - 1);
  const total = store.count - start - 1;
  if (total < 1) refuse('text', 'at least two tokens', store.count - start, 'Use a longer text.');
  const window = whole('window', Math.min(options.window ?? total, total), 1);
  const stride = whole('stride', options.stride ?? Math.ceil(window / 2), 1);
  if (stride > window) refuse('stride', `at most the window of ${window}`, stride, 'A larger stride would leave tokens out.');
  const count = window === total ? 1 : Math.ceil((total - window) / stride) + 1;
  const rows = Math.min(count, whole('rows', options.rows ?? 4, 1));
  const piece = whole('piece', options.piece ?? Math.min(512, Math.max(1, Math.floor(2 ** 24 / (rows * store.vocabSize)))), 1);

  const tally = new Tally();
  for (let first = 0; first < count && !signal?.aborted; first += rows) {
    const windows = Array.from({ length: Math.min(rows, count - first) }, (_, row) => first + row);
    let state: State | undefined;
    try {
      for (let offset = 0; offset < window && !signal?.aborted; offset += piece) {
        const length = Math.min(piece, window - offset);
        const batch = await readBatch(store, { start, total, window, stride, windows, offset, length });
        const { losses, next } = score(model, batch, state);
        if (state) disposeState(state);
        state = next;
        try {
          const values = await losses.data();
          for (const [at, label] of batch.labels.entries()) if (label >= 0) tally.add(offset + (at % length) + 1, values[at]!);
        } finally {
          losses.dispose();
        }
        onProgress?.(tally.tokens, total);
        await breathe();
      }
    } finally {
      if (state) disposeState(state);
    }
  }
  const loss = tally.sum / tally.tokens;
  const bytes = part === 'all' ? store.trainBytes + store.heldOutBytes : store.heldOutBytes;
  const tokensOfPart = part === 'all' ? store.count : store.count - store.trainCount;
  return {
    loss,
    perplexity: Math.exp(loss),
    bitsPerByte: bitsPerByte(loss, bytes / tokensOfPart),
    tokens: tally.tokens,
    leastContext: count === 1 ? 1 : window - stride + 1,
    positions: tally.positions(),
  };
}

interface Batch {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  readonly rows: number;
  readonly length: number;
}

/** Tokens `offset .. offset + length` of some windows, and the labels that count for them. */
async function readBatch(
  store: Pick<TokenStore, 'read'>,
  place: {
    readonly start: number;
    readonly total: number;
    readonly window: number;
    readonly stride: number;
    readonly windows: readonly number[];
    readonly offset: number;
    readonly length: number;
  },
): Promise<Batch> {
  const { start, total, window, stride, windows, offset, length } = place;
  const ids = new Int32Array(windows.length * length);
  const labels = new Int32Array(windows.length * length).fill(-1);
  for (const [row, index] of windows.entries()) {
    const from = index * stride + offset;
    // the last window may reach beyond the end; what is missing there is never looked at
    const some = Math.min(length, total - from);
    if (some <= 0) continue;
    const tokens = await store.read(start + from, some + 1);
    ids.set(tokens.subarray(0, some), row * length);
    const fresh = index === 0 ? 0 : Math.max(0, window - stride - offset);
    for (let at = fresh; at < some; at++) labels[row * length + at] = tokens[at + 1]!;
  }
  return { ids, labels, rows: windows.length, length };
}

/** Losses [rows * length] of one piece, and the state after it; both are the caller's. */
function score(model: LogitModel, { ids, labels, rows, length }: Batch, state: State | undefined): { losses: tf.Tensor; next: State } {
  let next: State | undefined;
  const losses = tf.tidy(() => {
    const result = model.forward(tf.tensor2d(ids, [rows, length], 'int32'), state ? { state } : {});
    next = keepState(result.state);
    const logits = tf.reshape(result.logits, [rows * length, -1]) as tf.Tensor2D;
    return softmaxCrossEntropy({ logits, labels: tf.tensor1d(labels, 'int32') }).loss;
  });
  return { losses, next: next! };
}

/** Sums of losses, by context. */
class Tally {
  sum = 0;
  tokens = 0;
  private readonly groups: { from: number; to: number; sum: number; tokens: number }[] = [];

  add(context: number, loss: number): void {
    this.sum += loss;
    this.tokens++;
    // 1, 2, 3 to 4, 5, 6 to 8, 9 to 11, 12 to 16, ... tokens of context
    const group = (this.groups[Math.ceil(2 * Math.log2(context) - 1e-9)] ??= { from: context, to: context, sum: 0, tokens: 0 });
    group.from = Math.min(group.from, context);
    group.to = Math.max(group.to, context);
    group.sum += loss;
    group.tokens++;
  }

  positions(): PositionLoss[] {
    return Object.values(this.groups).map(({ from, to, sum, tokens }) => ({ from, to, loss: sum / tokens, tokens }));
  }
}

function whole(argument: string, value: number, least: number): number {
  if (!Number.isInteger(value) || value < least) refuse(argument, `a whole number from ${least}`, value, `Correct ${argument}.`);
  return value;
}

function refuse(argument: string, wanted: string, given: number, remedy: string): never {
  return fail({ mechanism: 'perplexity', argument, wanted, given: String(given), remedy });
}
