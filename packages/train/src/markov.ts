import { fail } from '@seqloom/core';
import { breathe } from './breathe.ts';
import type { TokenStore } from './data/token-store.ts';

/** Options of `markovBitsPerByte`. */
export interface MarkovOptions {
  /** longest context in bytes, 1 to 5, default 5 */
  readonly order?: number;
  /** training bytes that are counted, the last ones before the held-out part, default 4 MiB; bounds memory and time */
  readonly maxTrainBytes?: number;
  /** held-out bytes that are scored, the first ones, default 1 MiB */
  readonly maxHeldOutBytes?: number;
}

const BLOCK = 65_536;

/**
 * Bits per byte of byte Markov models of order 1 to `order` on the held-out part of a text, counted on its training part.
 *
 * Witten-Bell smoothing by interpolation: `P_k(c | h) = (n(h c) + t(h) P_{k-1}(c | h')) / (n(h) + t(h))` with n the counts, t(h) the number
 * of different bytes seen after h, h' the context without its first byte, and `P_{-1} = 1 / 256`.
 *
 * @param store a store of bytes; it stays open
 * @returns one figure per order, the first for order 1
 * @throws SeqLoomError when the store holds no bytes or the order is out of range
 *
 * Source: Witten and Bell 1991, "The zero-frequency problem".
 */
export async function markovBitsPerByte(store: TokenStore, options: MarkovOptions = {}): Promise<number[]> {
  const { order = 5, maxTrainBytes = 2 ** 22, maxHeldOutBytes = 2 ** 20 } = options;
  if (store.vocabSize !== 256) {
    const remedy = 'Open the same text with openByteFile.';
    fail({ mechanism: 'markov', argument: 'store', wanted: 'a store of bytes', given: `${store.vocabSize} ids`, remedy });
  }
  if (!Number.isInteger(order) || order < 1 || order > 5) {
    fail({
      mechanism: 'markov',
      argument: 'order',
      wanted: 'from 1 to 5',
      given: String(order),
      remedy: 'Longer contexts do not fit a key.',
    });
  }
  const follows = new CountTable(); // context and next byte
  const contexts = new CountTable(); // context
  const history = new History(order);
  await each(store, Math.max(0, store.trainCount - maxTrainBytes), store.trainCount, (byte) => {
    for (let k = 0; k <= Math.min(order, history.length); k++) {
      const context = history.key(k);
      const first = follows.add(context * 256 + byte, 0) === 1;
      contexts.add(context, first ? 1 : 0);
    }
    history.push(byte);
  });
  const bits = new Float64Array(order + 1);
  const end = Math.min(store.count, store.trainCount + maxHeldOutBytes);
  // the history runs on from the training part
  await each(store, store.trainCount, end, (byte) => {
    let probability = 1 / 256;
    for (let k = 0; k <= order; k++) {
      const context = history.key(k);
      const place = contexts.find(context);
      const seen = k <= history.length ? contexts.counts[place]! : 0;
      if (seen > 0) {
        const different = contexts.marks[place]!;
        const count = follows.counts[follows.find(context * 256 + byte)]!;
        probability = (count + different * probability) / (seen + different);
      }
      bits[k]! -= Math.log2(probability);
    }
    history.push(byte);
  });
  return Array.from(bits.subarray(1), (sum) => sum / (end - store.trainCount));
}

async function each(store: TokenStore, from: number, to: number, visit: (byte: number) => void): Promise<void> {
  for (let at = from; at < to; at += BLOCK) {
    for (const byte of await store.read(at, Math.min(BLOCK, to - at))) visit(byte);
    await breathe();
  }
}

/** The last bytes, as numbers that tell contexts of all lengths apart. */
class History {
  /** bytes seen, at most the order */
  length = 0;
  private readonly order: number;
  private readonly bytes: number[];
  private readonly recent: number[];
  private readonly powers: readonly number[];

  constructor(order: number) {
    this.order = order;
    this.bytes = Array.from({ length: order }, () => 0);
    this.recent = Array.from({ length: order + 1 }, () => 0);
    this.powers = this.recent.map((_, k) => 256 ** k);
  }

  /** Key of the context of `k` bytes, below 2^41: a one in front of its bytes. */
  key(k: number): number {
    return this.powers[k]! + this.recent[k]!;
  }

  push(byte: number): void {
    for (let k = this.order; k > 0; k--) {
      // the byte that leaves the context goes before the new one comes
      this.recent[k] = (this.recent[k]! - this.bytes[k - 1]! * this.powers[k - 1]!) * 256 + byte;
    }
    this.bytes.pop();
    this.bytes.unshift(byte);
    this.length = Math.min(this.order, this.length + 1);
  }
}

/** Counts under whole-number keys from 1 to 2^53, by open addressing in typed arrays; each key has a second count, of marks. */
class CountTable {
  counts = new Uint32Array(2 ** 12);
  marks = new Uint16Array(2 ** 12);
  private keys = new Float64Array(2 ** 12);
  private used = 0;

  /** Adds one to the count and `mark` to the marks, and returns the new count. */
  add(key: number, mark: number): number {
    let place = this.find(key);
    if (this.keys[place] === 0) {
      if (++this.used > this.keys.length / 2) {
        this.grow();
        place = this.find(key);
      }
      this.keys[place] = key;
    }
    this.marks[place]! += mark;
    return ++this.counts[place]!;
  }

  /** Place of a key, or of the gap where it belongs. */
  find(key: number): number {
    const high = Math.floor(key / 4294967296);
    const low = (key - high * 4294967296) | 0;
    let hash = Math.imul(low ^ Math.imul(high, 0x9e3779b1), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
    const { keys } = this;
    const mask = keys.length - 1;
    let place = (hash ^ (hash >>> 13)) & mask;
    while (keys[place] !== 0 && keys[place] !== key) place = (place + 1) & mask;
    return place;
  }

  private grow(): void {
    const { keys, counts, marks } = this;
    this.keys = new Float64Array(2 * keys.length);
    this.counts = new Uint32Array(2 * keys.length);
    this.marks = new Uint16Array(2 * keys.length);
    for (let i = 0; i < keys.length; i++) {
      if (keys[i] === 0) continue;
      const place = this.find(keys[i]!);
      this.keys[place] = keys[i]!;
      this.counts[place] = counts[i]!;
      this.marks[place] = marks[i]!;
    }
  }
}
