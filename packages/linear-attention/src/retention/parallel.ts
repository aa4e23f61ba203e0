import * as tf from '@tensorflow/tfjs-core';
import { keepValid } from '@seqloom/core';

/** What every form of a mechanism with one constant decay per head works on. */
export interface DecayedTensors {
  /** [B, T, H, K] */
  readonly query: tf.Tensor;
  /** [B, T, H, K] */
  readonly key: tf.Tensor;
  /** [B, T, H, V] */
  readonly value: tf.Tensor;
}

/** The rest of a call. */
export interface DecayedCall {
  /** log of the decay of each head, at most 0 */
  readonly logDecay: readonly number[];
  /** factor of the output */
  readonly scale: number;
  readonly noncausal: boolean;
  /** tokens per chunk, of the chunked form */
  readonly chunkSize?: number | undefined;
  /** [B, H, K, V]; of the causal pattern */
  readonly memory?: tf.Tensor | undefined;
  /** [B, T], 1 for tokens and 0 for padding */
  readonly mask?: tf.Tensor | undefined;
}

/** Output [B, T, H, V] and memory after the last token [B, H, K, V]; a type rather than an interface, so that tf.tidy accepts it. */
export type Decayed = { output: tf.Tensor4D; memory: tf.Tensor4D };

/**
 * The parallel form: `O = ((scale Q K^T) * D) V` with `D_nm = gamma^(n - m)` for n >= m, or `gamma^|n - m|` when noncausal, plus what the
 * memory holds, `gamma^(n + 1) q_n S`.
 *
 * Powers are exponentials of distance times log decay, and the distance is masked first, so that nothing overflows. Quadratic in T.
 */
export function parallelForm({ query, key, value }: DecayedTensors, call: DecayedCall): Decayed {
  const { logDecay, scale, noncausal, memory, mask } = call;
  return tf.tidy(() => {
    const length = query.shape[1]!;
    const perHead = tf.reshape(tf.tensor1d([...logDecay]), [1, logDecay.length, 1, 1]); // [1, H, 1, 1]
    const headsFirst = (tensor: tf.Tensor): tf.Tensor4D => tf.transpose(tensor as tf.Tensor4D, [0, 2, 1, 3]);
    const q = tf.mul(headsFirst(query), scale);
    const k = headsFirst(keepValid(key, mask ?? null));
    const v = headsFirst(value);
    const order = tf.range(1, length + 1, 1, 'float32');
    // tokens up to each one, padding left out, [1 or B, 1, T, 1]
    const counts = mask ? tf.cumsum(tf.cast(mask, 'float32'), 1) : tf.reshape(order, [1, length]);
    const places = tf.reshape(counts, [-1, 1, length, 1]);
    const distance = tf.sub(places, tf.reshape(counts, [-1, 1, 1, length])); // [1 or B, 1, T, T]
    const scores = tf.matMul(q, k, false, true);
    let weighted: tf.Tensor;
    if (noncausal) {
      weighted = tf.mul(scores, tf.exp(tf.mul(tf.abs(distance), perHead)));
    } else {
      const lower = tf.cast(tf.greaterEqual(tf.expandDims(order, 1), tf.expandDims(order, 0)), 'float32');
      weighted = tf.mul(scores, tf.mul(tf.exp(tf.mul(tf.mul(distance, lower), perHead)), lower));
    }
    let rows = tf.matMul(weighted, v);
    const total = tf.slice(places, [0, 0, length - 1, 0], [-1, 1, 1, 1]);
    const written = tf.matMul(tf.mul(k, tf.exp(tf.mul(tf.sub(total, places), perHead))), v, true, false);
    let after = written;
    if (memory) {
      rows = tf.add(rows, tf.matMul(tf.mul(q, tf.exp(tf.mul(places, perHead))), memory));
      after = tf.add(written, tf.mul(memory, tf.exp(tf.mul(total, perHead))));
    }
    const output = headsFirst(rows);
    return { output: noncausal ? keepValid(output, mask ?? null) : output, memory: after as tf.Tensor4D };
  });
}
