import * as tf from '@tensorflow/tfjs-core';
import { rotaryAngles, rotaryFrequencies } from '@seqloom/attention';
import { deriveSeed, lastRows, Linear, mergeAttention, Module, normal, Parameter, rotary, softmaxAttention } from '@seqloom/core';
import type { MixInput } from '@seqloom/core';

/** Config of `PersistentAttention`. */
export interface PersistentAttentionConfig {
  readonly dim: number;
  readonly heads: number;
  /** N_p, learned tokens that every query sees */
  readonly persistent: number;
  readonly seed: number;
  readonly outputDeviation?: number | undefined;
}

/**
 * Causal attention to rows that the caller keeps, and to learned persistent tokens.
 *
 * A row is the key and the value of a token and a 1 that says that it exists, [B, S, 2 D + 1]; zeros are no token. Queries and keys are
 * rotated by their place among the rows, so that only distances count; persistent keys stand at no place.
 */
export class PersistentAttention extends Module {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  /** [N_p, D]; null for none */
  readonly persistent: Parameter | null;
  readonly heads: number;

  constructor({ dim, heads, persistent, seed, outputDeviation }: PersistentAttentionConfig) {
    super();
    const linear = (name: string, deviation?: number): Linear => new Linear({ in: dim, out: dim, seed: deriveSeed(seed, name), deviation });
    this.heads = heads;
    this.query = linear('attentionQuery');
    this.key = linear('attentionKey');
    this.value = linear('attentionValue');
    this.output = linear('attentionOutput', outputDeviation);
    this.persistent = persistent > 0 ? new Parameter([persistent, dim], normal(1), deriveSeed(seed, 'persistent')) : null;
  }

  /** Width of a row. */
  get rowWidth(): number {
    return 2 * this.query.weight.shape[0]! + 1;
  }

  /** Rows of tokens x [B, T, D]; padding, where valid [B, T] is 0, gives rows that do not exist. */
  rows(x: tf.Tensor3D, valid: tf.Tensor2D | null): tf.Tensor3D {
    const [batch, length] = x.shape;
    const exists = tf.reshape(valid ?? tf.ones([batch, length]), [batch, length, 1]);
    return tf.concat([this.key.forward(x), this.value.forward(x), exists], 2) as tf.Tensor3D;
  }

  /**
   * @param x queries [B, T, D], the last T places
   * @param sets lists of rows [B, S, 2 D + 1] that stand at the same S places
   * @param window places that a query sees, its own included; null: all before it
   * @returns [B, T, D]
   */
  attend(x: tf.Tensor3D, sets: readonly tf.Tensor3D[], window: number | null): tf.Tensor3D {
    const [batch, length, dim] = x.shape;
    const total = sets[0]!.shape[1];
    const cut = (rows: tf.Tensor): tf.Tensor => tf.reshape(rows, [rows.shape[0]!, rows.shape[1]!, this.heads, dim / this.heads]);
    const frequencies = rotaryFrequencies(dim / this.heads);
    const turn = (input: tf.Tensor, start: number): tf.Tensor =>
      rotary({ input, ...rotaryAngles({ start, length: input.shape[1]! }, frequencies) });
    const query = cut(this.query.forward(x));
    const parts = sets.map((set) => tf.split(set, [dim, dim, 1], 2) as [tf.Tensor, tf.Tensor, tf.Tensor]);
    const places = tf.reshape(tf.range(0, total), [1, total]);
    const near = softmaxAttention(
      {
        query: turn(query, total - length),
        key: tf.concat(
          parts.map(([key]) => turn(cut(key), 0)),
          1,
        ),
        value: tf.concat(
          parts.map(([, value]) => cut(value)),
          1,
        ),
        queryPositions: tf.add(tf.reshape(tf.range(total - length, total), [1, length]), tf.zeros([batch, length])),
        // a place of -1 is no key
        keyPositions: tf.concat(
          parts.map(([, , exists]) => {
            const flags = tf.cast(tf.greater(tf.reshape(exists, [batch, total]), 0.5), 'float32');
            return tf.sub(tf.mul(flags, tf.add(places, 1)), 1);
          }),
          1,
        ),
      },
      { causal: true, window },
    );
    let joined: tf.Tensor = near.output;
    if (this.persistent) {
      const tokens = tf.add(tf.reshape(this.persistent.value, [1, ...this.persistent.shape]), tf.zeros([batch, ...this.persistent.shape]));
      const far = softmaxAttention({ query, key: cut(this.key.forward(tokens)), value: cut(this.value.forward(tokens)) });
      joined = mergeAttention([near, far]).output;
    }
    return this.output.forward(tf.reshape(joined, [batch, length, dim])) as tf.Tensor3D;
  }

  /**
   * Causal attention of a piece to the last tokens, those of earlier pieces included.
   *
   * @param x [B, T, D]
   * @param piece its padding, and `before` [B, window - 1, 2 D + 1], the rows of the tokens before it
   * @param window places that a query sees, its own included
   * @returns output [B, T, D], and the rows before the next piece
   */
  attendWindow(
    x: tf.Tensor3D,
    { before, valid, lengths }: Pick<MixInput, 'valid' | 'lengths'> & { readonly before: tf.Tensor3D },
    window: number,
  ): { readonly output: tf.Tensor3D; readonly after: tf.Tensor3D } {
    const rows = this.rows(x, valid);
    if (window === 1) return { output: this.attend(x, [rows], 1), after: before };
    const output = this.attend(x, [tf.concat([before, rows], 1) as tf.Tensor3D], window);
    return { output, after: lastRows(before, rows, lengths, window - 1) };
  }
}
