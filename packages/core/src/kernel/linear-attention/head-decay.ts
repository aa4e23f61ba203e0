import * as tf from '@tensorflow/tfjs-core';
import { segmentSum, segmentSumGradient, triangleOfOnes } from '../../numerics/segment-sum.ts';
import type { ChunkDecay, ScoresGradientCall, ScoreTriangle } from './chunk-decay.ts';

/** Nothing decays: the state only grows. */
export class NoDecay implements ChunkDecay {
  readonly whole = undefined;

  fromStart(rows: tf.Tensor3D): tf.Tensor3D {
    return rows;
  }

  toEnd(key: tf.Tensor3D): tf.Tensor3D {
    return key;
  }

  scores(rows: tf.Tensor3D, key: tf.Tensor3D, group: number, triangle: ScoreTriangle): tf.Tensor3D {
    return tf.mul(tf.matMul(rows, key, false, true), triangleOfOnes(key.shape[1], triangle, group)) as tf.Tensor3D;
  }

  fromStartGradient(upstream: tf.Tensor3D): tf.Tensor3D {
    return upstream;
  }

  toEndGradient(upstream: tf.Tensor3D): tf.Tensor3D {
    return upstream;
  }

  wholeGradient(): void {}

  scoresGradient({ upstream, rows, key, group, triangle }: ScoresGradientCall): { rows: tf.Tensor3D; key: tf.Tensor3D } {
    const raw = tf.mul(upstream, triangleOfOnes(key.shape[1], triangle, group)) as tf.Tensor3D;
    return { rows: tf.matMul(raw, key), key: tf.matMul(raw, rows, true, false) };
  }

  logDecayGradient(): undefined {
    return undefined;
  }
}

/** One decay per token and head: exponentials of the scores are one [C, C] matrix per chunk. */
export class HeadDecay implements ChunkDecay {
  readonly whole: tf.Tensor3D;
  readonly #chunks: number;
  readonly #size: number;
  readonly #start: tf.Tensor3D; // [M, C, 1]
  readonly #end: tf.Tensor3D; // [M, C, 1]
  readonly #between: tf.Tensor3D; // [M, C, C]
  #startGradient: tf.Tensor2D | undefined;
  #endGradient: tf.Tensor2D | undefined;
  #betweenGradient: tf.Tensor3D | undefined;
  #wholeGradient: tf.Tensor2D | undefined;

  constructor(logDecay: tf.Tensor3D) {
    const [chunks, size] = logDecay.shape;
    this.#chunks = chunks;
    this.#size = size;
    const flat = tf.reshape(logDecay, [chunks, size]) as tf.Tensor2D;
    const fromStart = tf.matMul(flat, triangleOfOnes(size, 'upper'));
    const toEnd = tf.matMul(flat, triangleOfOnes(size, 'strictly-lower'));
    this.#start = tf.reshape(tf.exp(fromStart), [chunks, size, 1]);
    this.#end = tf.reshape(tf.exp(toEnd), [chunks, size, 1]);
    this.whole = tf.reshape(tf.exp(tf.sum(flat, 1)), [chunks, 1, 1]);
    this.#between = tf.mul(tf.exp(segmentSum(flat)), triangleOfOnes(size, 'lower'));
  }

  #perToken(rows: tf.Tensor3D, factor: tf.Tensor3D, group: number): tf.Tensor3D {
    const wide = tf.reshape(rows, [this.#chunks, this.#size, group * rows.shape[2]]);
    return tf.reshape(tf.mul(wide, factor), rows.shape);
  }

  // [M, C, C] for every row of a token: [M, C * group, C]
  #triangle(group: number, triangle: ScoreTriangle): tf.Tensor3D {
    const size = this.#size;
    const between = triangle === 'lower' ? this.#between : (tf.mul(this.#between, triangleOfOnes(size, triangle)) as tf.Tensor3D);
    if (group === 1) return between;
    const repeated = tf.tile(tf.reshape(between, [this.#chunks, size, 1, size]), [1, 1, group, 1]);
    return tf.reshape(repeated, [this.#chunks, size * group, size]);
  }

  // sums over all that a token holds
  #sumPerToken(left: tf.Tensor3D, right: tf.Tensor3D): tf.Tensor2D {
    const product = tf.mul(left, right);
    return tf.sum(tf.reshape(product, [this.#chunks, this.#size, product.size / (this.#chunks * this.#size)]), 2) as tf.Tensor2D;
  }

  fromStart(rows: tf.Tensor3D, group: number): tf.Tensor3D {
    return this.#perToken(rows, this.#start, group);
  }

  toEnd(key: tf.Tensor3D): tf.Tensor3D {
    return tf.mul(key, this.#end);
  }

  scores(rows: tf.Tensor3D, key: tf.Tensor3D, group: number, triangle: ScoreTriangle): tf.Tensor3D {
    return tf.mul(tf.matMul(rows, key, false, true), this.#triangle(group, triangle));
  }

  fromStartGradient(upstream: tf.Tensor3D, decayed: tf.Tensor3D, group: number): tf.Tensor3D {
    this.#startGradient = plus(this.#startGradient, this.#sumPerToken(upstream, decayed));
    return this.#perToken(upstream, this.#start, group);
  }

  toEndGradient(upstream: tf.Tensor3D, decayed: tf.Tensor3D): tf.Tensor3D {
    this.#endGradient = plus(this.#endGradient, this.#sumPerToken(upstream, decayed));
    return tf.mul(upstream, this.#end);
  }

  wholeGradient(upstream: tf.Tensor3D): void {
    const sum = tf.reshape(tf.sum(upstream, [1, 2]), [this.#chunks, 1]) as tf.Tensor2D;
    this.#wholeGradient = plus(this.#wholeGradient, sum);
  }

  scoresGradient({ upstream, scores, rows, key, group, triangle }: ScoresGradientCall): { rows: tf.Tensor3D; key: tf.Tensor3D } {
    const raw = tf.mul(upstream, this.#triangle(group, triangle)) as tf.Tensor3D;
    const perRow = tf.mul(upstream, scores);
    const size = this.#size;
    const exponent = (group === 1 ? perRow : tf.sum(tf.reshape(perRow, [this.#chunks, size, group, size]), 2)) as tf.Tensor3D;
    this.#betweenGradient = plus(this.#betweenGradient, exponent);
    return { rows: tf.matMul(raw, key), key: tf.matMul(raw, rows, true, false) };
  }

  logDecayGradient(): tf.Tensor3D {
    const size = this.#size;
    let sum: tf.Tensor2D = tf.zeros([this.#chunks, size]);
    if (this.#startGradient) sum = tf.add(sum, tf.matMul(this.#startGradient, triangleOfOnes(size, 'upper'), false, true));
    if (this.#endGradient) sum = tf.add(sum, tf.matMul(this.#endGradient, triangleOfOnes(size, 'strictly-lower'), false, true));
    if (this.#betweenGradient) sum = tf.add(sum, segmentSumGradient(this.#betweenGradient));
    if (this.#wholeGradient) sum = tf.add(sum, this.#wholeGradient);
    return tf.reshape(sum, [this.#chunks, size, 1]);
  }
}

function plus<T extends tf.Tensor>(sum: T | undefined, term: T): T {
  return sum ? (tf.add(sum, term) as T) : term;
}
