import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  deriveSeed,
  divideHeads,
  layerEntries,
  Linear,
  naturalNumber,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { taylorFeatureDim } from '../linear-attention/taylor-features.ts';
import { prefixLinearAttention } from './jrt-prefix-linear-attention.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** query heads */
  heads: positiveInteger,
  /** key and value heads, a divisor of heads; default: heads */
  keyHeads: v.optional(positiveInteger),
  /** channels of a query or key head before the expansion */
  featureDim: v.optional(positiveInteger, 16),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  /** tokens of the prefix at most; 0: none, which is BASED */
  prefixLength: v.optional(naturalNumber, 1024),
  /** keep each product of two channels once in the state */
  symmetric: v.optional(v.boolean(), true),
  epsilon: v.optional(positiveNumber, 1e-6),
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `PrefixLinearAttention`: dim and heads; all else has a default. */
export type PrefixLinearAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'jrt-prefix-linear-attention';

/**
 * Prefix linear attention as a layer: projections without biases to query, key and value, a second key and value for the prefix, the op,
 * and the output projection. Beside BASED's it has `dim (keyHeads featureDim + keyHeads valueDim)` parameters more.
 *
 * The prefix of a row is what the row is given first, at most `prefixLength` tokens: read it in one piece. Its tokens see each other both
 * ways; those after it see it whole and each other causally. Later pieces go on from the state, `memory` [B, keyHeads, F, valueDim + 1],
 * which holds prefix and tokens alike. Rows of different prefixes: pass the prefixes with a mask first, the rest after.
 *
 * @see Arora et al. 2024, arXiv 2407.05483
 */
export class PrefixLinearAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly prefixKey: Linear | null;
  readonly prefixValue: Linear | null;
  readonly output: Linear;
  readonly #keyHeads: number;
  readonly #valueDim: number;

  constructor(config: PrefixLinearAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, keyHeads = heads, featureDim, prefixLength, seed, outputDeviation: deviation } = this.config;
    divideHeads(MECHANISM, heads, keyHeads, 'config.keyHeads');
    const valueDim = this.config.valueDim ?? divideHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.#keyHeads = keyHeads;
    this.#valueDim = valueDim;
    const project = (name: string, out: number): Linear => new Linear({ in: dim, out, seed: deriveSeed(seed, name) });
    this.query = project('query', heads * featureDim);
    this.key = project('key', keyHeads * featureDim);
    this.value = project('value', keyHeads * valueDim);
    this.prefixKey = prefixLength > 0 ? project('prefixKey', keyHeads * featureDim) : null;
    this.prefixValue = prefixLength > 0 ? project('prefixValue', keyHeads * valueDim) : null;
    this.output = new Linear({ in: heads * valueDim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    const { featureDim, symmetric } = this.config;
    return { memory: [batch, this.#keyHeads, taylorFeatureDim(featureDim, symmetric), this.#valueDim + 1] };
  }

  override mixingFlops(): number {
    const { heads, featureDim, symmetric } = this.config;
    return 4 * heads * taylorFeatureDim(featureDim, symmetric) * (this.#valueDim + 1);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, symmetric, epsilon, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const split = (rows: tf.Tensor, count: number): tf.Tensor => tf.reshape(rows, [batch, rows.shape[1]!, count, rows.shape[2]! / count]);
    const prefix = this.#prefix(x, state.position, valid, split);
    const result = prefixLinearAttention(
      {
        query: split(this.query.forward(x), heads),
        key: split(this.key.forward(x), this.#keyHeads),
        value: split(this.value.forward(x), this.#keyHeads),
        ...prefix?.tensors,
      },
      {
        state: { memory: state.memory! },
        symmetric,
        epsilon,
        form,
        chunkSize,
        ...(valid ? { mask: valid } : {}),
        ...(prefix ? { prefixMask: prefix.mask } : {}),
      },
    );
    const output = this.output.forward(tf.reshape(result.output, [batch, length, heads * this.#valueDim])) as tf.Tensor3D;
    return { output, state: { ...result.state, position: advance(state.position, x, lengths) } };
  }

  // the first tokens of rows that start here; those of other rows are masked
  #prefix(
    x: tf.Tensor3D,
    position: tf.Tensor,
    valid: tf.Tensor2D | null,
    split: (rows: tf.Tensor, count: number) => tf.Tensor,
  ): { tensors: { prefixKey: tf.Tensor; prefixValue: tf.Tensor }; mask: tf.Tensor } | null {
    if (!this.prefixKey || !this.prefixValue) return null;
    const [batch, length] = x.shape;
    const count = Math.min(this.config.prefixLength, length);
    const starts = tf.cast(tf.equal(tf.reshape(position, [batch, 1]), 0), 'float32');
    const live = valid ? tf.slice(valid, [0, 0], [batch, count]) : tf.ones([batch, count]);
    const tokens = tf.slice(x, [0, 0, 0], [batch, count, this.dim]);
    return {
      tensors: {
        prefixKey: split(this.prefixKey.forward(tokens), this.#keyHeads),
        prefixValue: split(this.prefixValue.forward(tokens), this.#keyHeads),
      },
      mask: tf.mul(live, starts),
    };
  }
}
