import * as tf from '@tensorflow/tfjs-core';
import { joinBlocks, splitBlocks } from '../../numerics/block-triangle.ts';
import type { ChunkDecay, ScoresGradientCall, ScoreTriangle } from './chunk-decay.ts';

// the two halves of a block of 2 h tokens meet in its middle: rows of the second half have decayed since, keys of the first until then
interface Level {
  readonly half: number;
  /** exp of the sum from the middle up to each token of the second half, [m, h, D] */
  readonly sinceMiddle: tf.Tensor3D;
  /** exp of the sum after each token of the first half up to the middle, [m, h, D] */
  readonly untilMiddle: tf.Tensor3D;
}

/**
 * One decay per token and key channel.
 *
 * A decayed score is no plain product any more, but a block [second half x first half] is one: both sides decay towards the middle, with
 * exponents that are sums of their own terms and never positive. Halving the chunk down to single tokens covers the triangle in log2(C)
 * rounds of products; no [C, C, D] tensor exists, and nothing overflows or cancels. C is a power of two.
 */
export class ChannelDecay implements ChunkDecay {
  readonly whole: tf.Tensor3D; // [M, D, 1]
  readonly #chunks: number;
  readonly #size: number;
  readonly #channels: number;
  readonly #levels: Level[] = [];
  readonly #start: tf.Tensor3D; // [M, C, D]
  readonly #end: tf.Tensor3D; // [M, C, D]
  #startGradient: tf.Tensor | undefined;
  #endGradient: tf.Tensor | undefined;
  #wholeGradient: tf.Tensor | undefined;
  // per level: gradients of the two exponents, [m, h, D] each
  readonly #levelGradients = new Map<number, { since: tf.Tensor3D; until: tf.Tensor3D }>();

  constructor(logDecay: tf.Tensor3D) {
    const [chunks, size, channels] = logDecay.shape;
    this.#chunks = chunks;
    this.#size = size;
    this.#channels = channels;
    // prefix: sum from the block's start through each token; suffix: sum after each token to the block's end
    let prefix: tf.Tensor = tf.reshape(logDecay, [chunks * size, 1, channels]);
    let suffix: tf.Tensor = tf.zerosLike(prefix);
    let total: tf.Tensor = prefix;
    const first = tf.tensor4d([1, 0], [1, 2, 1, 1]);
    const second = tf.tensor4d([0, 1], [1, 2, 1, 1]);
    for (let half = 1; half < size; half *= 2) {
      const blocks = (chunks * size) / (2 * half);
      const prefixes = tf.reshape(prefix, [blocks, 2, half, channels]);
      const suffixes = tf.reshape(suffix, [blocks, 2, half, channels]);
      const totals = tf.reshape(total, [blocks, 2, 1, channels]);
      this.#levels.push({
        half,
        sinceMiddle: tf.exp(takeHalf(prefixes, 1)) as tf.Tensor3D,
        untilMiddle: tf.exp(takeHalf(suffixes, 0)) as tf.Tensor3D,
      });
      const firstTotal = tf.slice(totals, [0, 0, 0, 0], [blocks, 1, 1, channels]);
      const secondTotal = tf.slice(totals, [0, 1, 0, 0], [blocks, 1, 1, channels]);
      prefix = tf.add(prefixes, tf.mul(firstTotal, second));
      suffix = tf.add(suffixes, tf.mul(secondTotal, first));
      total = tf.add(firstTotal, secondTotal);
    }
    this.#start = tf.reshape(tf.exp(prefix), [chunks, size, channels]);
    this.#end = tf.reshape(tf.exp(suffix), [chunks, size, channels]);
    this.whole = tf.reshape(tf.exp(total), [chunks, channels, 1]);
  }

  #perToken(rows: tf.Tensor3D, factor: tf.Tensor3D, group: number): tf.Tensor3D {
    if (group === 1) return tf.mul(rows, factor);
    const [chunks, size, channels] = factor.shape;
    const wide = tf.reshape(rows, [chunks, size, group, channels]);
    return tf.reshape(tf.mul(wide, tf.reshape(factor, [chunks, size, 1, channels])), rows.shape);
  }

  // sum over the group of left * right: [m, h * group, D] -> [m, h, D]
  #overGroup(left: tf.Tensor3D, right: tf.Tensor3D, group: number): tf.Tensor3D {
    const product = tf.mul(left, right) as tf.Tensor3D;
    if (group === 1) return product;
    const [count, rows, channels] = product.shape;
    return tf.sum(tf.reshape(product, [count, rows / group, group, channels]), 2);
  }

  // the decayed second-half rows and first-half keys of every block of a level
  #halves(level: Level, rows: tf.Tensor3D, key: tf.Tensor3D, group: number): { rows: tf.Tensor3D; key: tf.Tensor3D } {
    const { half, sinceMiddle, untilMiddle } = level;
    const blocks = sinceMiddle.shape[0];
    const channels = this.#channels;
    const later = takeHalf(tf.reshape(rows, [blocks, 2, half * group, channels]), 1);
    const earlier = takeHalf(tf.reshape(key, [blocks, 2, half, channels]), 0);
    return { rows: this.#perToken(later, sinceMiddle, group), key: tf.mul(earlier, untilMiddle) };
  }

  fromStart(rows: tf.Tensor3D, group: number): tf.Tensor3D {
    return this.#perToken(rows, this.#start, group);
  }

  toEnd(key: tf.Tensor3D): tf.Tensor3D {
    return tf.mul(key, this.#end);
  }

  scores(rows: tf.Tensor3D, key: tf.Tensor3D, group: number, triangle: ScoreTriangle): tf.Tensor3D {
    return tf.tidy(() => {
      const tokens = this.#chunks * this.#size;
      const channels = this.#channels;
      // a token with itself does not decay
      let scores: tf.Tensor3D =
        triangle === 'lower'
          ? tf.matMul(tf.reshape(rows, [tokens, group, channels]), tf.reshape(key, [tokens, 1, channels]), false, true)
          : tf.zeros([tokens, group, 1]);
      for (const level of this.#levels) {
        const halves = this.#halves(level, rows, key, group);
        scores = joinBlocks({ diagonal: scores, below: tf.matMul(halves.rows, halves.key, false, true) });
      }
      return scores;
    });
  }

  fromStartGradient(upstream: tf.Tensor3D, decayed: tf.Tensor3D, group: number): tf.Tensor3D {
    const exponent = this.#overGroup(upstream, decayed, group);
    this.#startGradient = this.#startGradient ? tf.add(this.#startGradient, exponent) : exponent;
    return this.#perToken(upstream, this.#start, group);
  }

  toEndGradient(upstream: tf.Tensor3D, decayed: tf.Tensor3D): tf.Tensor3D {
    const exponent = tf.mul(upstream, decayed);
    this.#endGradient = this.#endGradient ? tf.add(this.#endGradient, exponent) : exponent;
    return tf.mul(upstream, this.#end);
  }

  wholeGradient(upstream: tf.Tensor3D): void {
    this.#wholeGradient = this.#wholeGradient ? tf.add(this.#wholeGradient, upstream) : upstream;
  }

  scoresGradient({ upstream, rows, key, group, triangle }: ScoresGradientCall): { rows: tf.Tensor3D; key: tf.Tensor3D } {
    const tokens = this.#chunks * this.#size;
    const channels = this.#channels;
    let rowsGradient: tf.Tensor = tf.zerosLike(rows);
    let keyGradient: tf.Tensor = tf.zerosLike(key);
    let rest = upstream;
    for (const level of this.#levels.toReversed()) {
      const { half, sinceMiddle, untilMiddle } = level;
      const blocks = sinceMiddle.shape[0];
      const { diagonal, below } = splitBlocks(rest);
      rest = diagonal;
      const halves = this.#halves(level, rows, key, group);
      const later = tf.matMul(below, halves.key); // [m, h * group, D]
      const earlier = tf.matMul(below, halves.rows, true, false) as tf.Tensor3D; // [m, h, D]
      const since = this.#overGroup(later as tf.Tensor3D, halves.rows, group);
      const until = tf.mul(earlier, halves.key) as tf.Tensor3D;
      const before = this.#levelGradients.get(half);
      this.#levelGradients.set(
        half,
        before ? { since: tf.add(before.since, since), until: tf.add(before.until, until) } : { since, until },
      );
      const laterRows = this.#perToken(later as tf.Tensor3D, sinceMiddle, group);
      rowsGradient = tf.add(tf.reshape(rowsGradient, [blocks, 2, half * group, channels]), placeHalf(laterRows, 1));
      keyGradient = tf.add(tf.reshape(keyGradient, [blocks, 2, half, channels]), placeHalf(tf.mul(earlier, untilMiddle), 0));
    }
    if (triangle === 'lower') {
      const own = rest; // [tokens, group, 1]
      rowsGradient = tf.add(tf.reshape(rowsGradient, [tokens, group, channels]), tf.mul(own, tf.reshape(key, [tokens, 1, channels])));
      const perToken = tf.matMul(own, tf.reshape(rows, [tokens, group, channels]), true, false); // [tokens, 1, D]
      keyGradient = tf.add(tf.reshape(keyGradient, [tokens, 1, channels]), perToken);
    }
    return { rows: tf.reshape(rowsGradient, rows.shape), key: tf.reshape(keyGradient, key.shape) };
  }

  // walks the sums back from the whole chunk to single tokens
  logDecayGradient(): tf.Tensor3D {
    const shape: [number, number, number] = [this.#chunks, this.#size, this.#channels];
    const channels = this.#channels;
    let prefix: tf.Tensor = this.#startGradient ?? tf.zeros(shape);
    let suffix: tf.Tensor = this.#endGradient ?? tf.zeros(shape);
    let total: tf.Tensor = tf.reshape(this.#wholeGradient ?? tf.zeros([this.#chunks, channels]), [this.#chunks, 1, channels]);
    for (const { half, sinceMiddle } of this.#levels.toReversed()) {
      const blocks = sinceMiddle.shape[0];
      const prefixes = tf.reshape(prefix, [blocks, 2, half, channels]);
      const suffixes = tf.reshape(suffix, [blocks, 2, half, channels]);
      // the first half's total went into every prefix of the second half, the second half's into every suffix of the first
      const firstTotal = tf.sum(takeHalf(prefixes, 1), 1, true);
      const secondTotal = tf.sum(takeHalf(suffixes, 0), 1, true);
      total = tf.add(tf.reshape(total, [blocks, 1, 1, channels]), tf.stack([firstTotal, secondTotal], 1)); // [m, 2, 1, D]
      const own = this.#levelGradients.get(half);
      prefix = own ? tf.add(prefixes, placeHalf(own.since, 1)) : prefixes;
      suffix = own ? tf.add(suffixes, placeHalf(own.until, 0)) : suffixes;
    }
    return tf.add(tf.reshape(prefix, shape), tf.reshape(total, shape));
  }
}

// [m, 2, h, D] -> [m, h, D]
function takeHalf(pairs: tf.Tensor, index: 0 | 1): tf.Tensor3D {
  const [blocks, , rows, channels] = pairs.shape as [number, number, number, number];
  return tf.reshape(tf.slice(pairs, [0, index, 0, 0], [blocks, 1, rows, channels]), [blocks, rows, channels]);
}

// [m, h, D] -> [m, 2, h, D], zeros in the other half
function placeHalf(half: tf.Tensor, index: 0 | 1): tf.Tensor4D {
  const zeros = tf.zerosLike(half);
  return tf.stack(index === 0 ? [half, zeros] : [zeros, half], 1) as tf.Tensor4D;
}
