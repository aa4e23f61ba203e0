import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { rotaryEmbedding } from '@seqloom/attention';
import { deriveSeed, divideHeads, fail, layerEntries, Linear, positiveInteger, positiveNumber, SequenceMixer } from '@seqloom/core';
import type { MixInput } from '@seqloom/core';

/** Config keys of every layer that projects to heads with rotary positions. */
export const headEntries = {
  ...layerEntries,
  /** query heads H */
  heads: positiveInteger,
  /** key and value heads G, a divisor of H; default H */
  kvHeads: v.optional(positiveInteger),
  /** channels per head; default dim / heads */
  headDim: v.optional(positiveInteger),
  /** base of the rotary positions; null: no positions */
  rotaryBase: v.optional(v.nullable(positiveNumber), 10000),
};

const entries = v.strictObject(headEntries);

/** The keys of a parsed config that `ProjectedHeads` reads. */
export type HeadConfig = Readonly<v.InferOutput<typeof entries>>;

/** Query, key, value and output projections with rotary positions, around attention to a cache of keys and values. */
export abstract class ProjectedHeads extends SequenceMixer {
  readonly mechanism: string;
  readonly dim: number;
  readonly pattern = 'causal-self';
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly #rotaryBase: number | null;

  constructor(mechanism: string, config: HeadConfig) {
    super();
    const { dim, heads, kvHeads = heads, rotaryBase, seed, outputDeviation: deviation } = config;
    divideHeads(mechanism, heads, kvHeads, 'config.kvHeads');
    this.mechanism = mechanism;
    this.dim = dim;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = config.headDim ?? divideHeads(mechanism, dim, heads);
    if (rotaryBase !== null && this.headDim % 2 !== 0)
      fail({
        mechanism,
        argument: 'config.headDim',
        wanted: 'even where heads are rotated',
        given: String(this.headDim),
        remedy: 'Rotary positions turn pairs of channels: choose an even head width, or rotaryBase: null.',
      });
    this.#rotaryBase = rotaryBase;
    const [wide, narrow] = [heads * this.headDim, kvHeads * this.headDim];
    this.query = new Linear({ in: dim, out: wide, seed: deriveSeed(seed, 'query') });
    this.key = new Linear({ in: dim, out: narrow, seed: deriveSeed(seed, 'key') });
    this.value = new Linear({ in: dim, out: narrow, seed: deriveSeed(seed, 'value') });
    this.output = new Linear({ in: wide, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  /** Query [B, T, H, D], key and value [B, T, G, D] of a piece, before positions. */
  protected project({ x }: MixInput): { query: tf.Tensor4D; key: tf.Tensor4D; value: tf.Tensor4D } {
    const [batch, length] = x.shape;
    const split = (linear: Linear, heads: number): tf.Tensor4D =>
      tf.reshape(linear.forward(x), [batch, length, heads, this.headDim]) as tf.Tensor4D;
    return { query: split(this.query, this.heads), key: split(this.key, this.kvHeads), value: split(this.value, this.kvHeads) };
  }

  /** Query and key turned to the positions of their tokens; `start` says that the sequence begins with this piece. */
  protected rotate<H extends { query: tf.Tensor4D; key: tf.Tensor4D }>(heads: H, { x, state }: MixInput, start: boolean): H {
    if (this.#rotaryBase === null) return heads;
    const [, length] = x.shape;
    // at the start the angles can be tabled on the host
    const positions = start ? { start: 0, length } : tf.add(tf.reshape(state.position, [-1, 1]), tf.range(0, length, 1, 'float32'));
    return { ...heads, ...rotaryEmbedding({ query: heads.query, key: heads.key, positions }, { base: this.#rotaryBase }) };
  }

  /** Joins heads [B, T, H, D] and projects them to [B, T, dim]. */
  protected join(heads: tf.Tensor): tf.Tensor3D {
    const [batch, length] = heads.shape as [number, number];
    return this.output.forward(tf.reshape(heads, [batch, length, this.heads * this.headDim])) as tf.Tensor3D;
  }
}
