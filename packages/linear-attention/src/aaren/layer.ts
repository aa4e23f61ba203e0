import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  deriveSeed,
  divideHeads,
  layerEntries,
  Linear,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { aaren } from './aaren.ts';
import type { AarenState } from './aaren.ts';

const Schema = v.strictObject({
  ...layerEntries,
  heads: v.optional(positiveInteger, 4),
  /** channels of a key head; default: dim / heads */
  headDim: v.optional(positiveInteger),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  /** learned vectors on the projections */
  bias: v.optional(v.boolean(), false),
  form: v.optional(v.picklist(['parallel', 'recurrent']), 'recurrent'),
});

/** Config of `Aaren`: dim; all else has a default. */
export type AarenConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'aaren';

/**
 * Aaren in the place of self-attention: a learned token, projected to one query per head, attends to all tokens so far; projections to
 * key and value, the op, and the output projection. It has no positions of its own: add encodings to the input.
 *
 * Parameters with the defaults: 4 dim^2, as softmax attention has, plus dim for the learned token. The state is `maximum` and
 * `denominator` [B, heads] and `numerator` [B, heads, valueDim], whatever the length.
 *
 * @see Feng et al. 2024, arXiv 2405.13956
 */
export class Aaren extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  /** the learned token, [1, dim] */
  readonly token: Parameter;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly #headDim: number;
  readonly #valueDim: number;

  constructor(config: AarenConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, bias, seed, outputDeviation: deviation } = this.config;
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    const valueDim = this.config.valueDim ?? divideHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.#headDim = headDim;
    this.#valueDim = valueDim;
    const project = (name: string, out: number): Linear => new Linear({ in: dim, out, bias, seed: deriveSeed(seed, name) });
    this.token = new Parameter([1, dim], normal(1), deriveSeed(seed, 'token'), { decay: false });
    this.query = project('query', heads * headDim);
    this.key = project('key', heads * headDim);
    this.value = project('value', heads * valueDim);
    this.output = new Linear({ in: heads * valueDim, out: dim, bias, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    const { heads } = this.config;
    return { maximum: [batch, heads], denominator: [batch, heads], numerator: [batch, heads, this.#valueDim] };
  }

  override mixingFlops(): number {
    return 2 * this.config.heads * (this.#headDim + this.#valueDim);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, form } = this.config;
    const [batch, length] = x.shape;
    const split = (rows: tf.Tensor, width: number): tf.Tensor => tf.reshape(rows, [batch, length, heads, width]);
    const result = aaren(
      {
        query: tf.reshape(this.query.forward(this.token.value), [heads, this.#headDim]),
        key: split(this.key.forward(x), this.#headDim),
        value: split(this.value.forward(x), this.#valueDim),
      },
      { state: state as unknown as AarenState, form, ...(valid ? { mask: valid } : {}) },
    );
    const joined = tf.reshape(result.output, [batch, length, heads * this.#valueDim]);
    const output = this.output.forward(joined) as tf.Tensor3D;
    return { output, state: { ...result.state, position: advance(state.position, x, lengths) } };
  }
}
