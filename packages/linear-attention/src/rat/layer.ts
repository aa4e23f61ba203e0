import {
  deriveSeed,
  divideHeads,
  layerEntries,
  Linear,
  logSigmoid,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
  checkSetting,
} from '@seqloom/core';
import type { Initialiser, MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { ratStateShapes } from './chunk-cache.ts';
import type { RatState } from './chunk-cache.ts';
import { rat } from './rat.ts';

const Schema = v.strictObject({
  ...layerEntries,
  heads: v.optional(positiveInteger, 4),
  /** distinct query and key heads, a divisor of heads; head h uses number h mod groups. Default: 2, or 1 where heads are odd */
  groups: v.optional(positiveInteger),
  /** tokens per chunk */
  chunkSize: v.optional(positiveInteger, 16),
  /** base of the rotary positions, which count chunks; null: no positions */
  rotaryBase: v.optional(v.nullable(positiveNumber), 10000),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
});

/** Config of `Rat`: dim; all else has a default. */
export type RatConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'rat';

// sigmoid of it is x / (1 + x): gates that reach from 2 tokens back to a whole chunk
const gateBias =
  (chunkSize: number): Initialiser =>
  ([width], random) =>
    Float32Array.from({ length: width! }, () => Math.log(1 + Math.max(0, chunkSize - 2) * random.uniform()));

/**
 * The RAT layer: projections without biases to value, recurrence gate (with a bias) and output gate (dim channels each) and to query and key
 * (groups heads, repeated), the op, and `y = W_o (sigmoid(x W_z) o)`.
 *
 * Parameters: 4 dim^2 + 2 groups (dim / heads) dim + dim; without the recurrence gate's dim^2 + dim for chunks of one token. The state is
 * `key` and `value` [B, T / C, heads, dim / heads], the running pair [B, heads, dim / heads] twice, and `phase`, which takes no memory.
 *
 * @see Wei et al. 2025, arXiv 2507.04416
 */
export class Rat extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  /** the recurrence gate; null for chunks of one token */
  readonly forget: Linear | null;
  readonly forgetBias: Parameter | null;
  readonly gate: Linear;
  readonly output: Linear;
  readonly #headDim: number;
  readonly #groups: number;

  constructor(config: RatConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, chunkSize, rotaryBase, seed, outputDeviation: deviation } = this.config;
    const width = divideHeads(MECHANISM, dim, heads);
    const groups = this.config.groups ?? (heads % 2 === 0 ? 2 : 1);
    divideHeads(MECHANISM, heads, groups, 'config.groups');
    const even = rotaryBase === null || width % 2 === 0;
    checkSetting(MECHANISM, 'config.heads', even, 'such that dim / heads is even', heads, 'Choose other heads, or rotaryBase: null.');
    this.dim = dim;
    this.#headDim = width;
    this.#groups = groups;
    const project = (name: string, out: number): Linear => new Linear({ in: dim, out, seed: deriveSeed(seed, name) });
    this.query = project('query', groups * width);
    this.key = project('key', groups * width);
    this.value = project('value', dim);
    this.forget = chunkSize === 1 ? null : project('forget', dim);
    this.forgetBias = chunkSize === 1 ? null : new Parameter([dim], gateBias(chunkSize), deriveSeed(seed, 'forgetBias'));
    this.gate = project('gate', dim);
    this.output = new Linear({ in: dim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    return ratStateShapes(batch, this.config.heads, this.#headDim);
  }

  override stateBytes(batch: number, length: number): number {
    const chunks = Math.floor(length / this.config.chunkSize);
    return 4 * batch * (2 * this.dim * (chunks + 1) + 1);
  }

  override mixingFlops(length: number): number {
    return 4 * this.dim * (Math.floor(length / this.config.chunkSize) + 1) + 6 * this.dim;
  }

  mix({ x, state, lengths }: MixInput): MixerResult {
    const { heads, chunkSize, rotaryBase, form } = this.config;
    const [batch, length] = x.shape;
    const split = (rows: tf.Tensor, count: number): tf.Tensor => tf.reshape(rows, [batch, length, count, this.#headDim]);
    // head h gets number h mod groups
    const repeat = (rows: tf.Tensor): tf.Tensor => {
      const part = split(rows, this.#groups);
      return this.#groups === heads ? part : tf.concat(Array<tf.Tensor>(heads / this.#groups).fill(part), 2);
    };
    const logDecay =
      this.forget && this.forgetBias
        ? logSigmoid(tf.add(this.forget.forward(x), this.forgetBias.value))
        : tf.fill([batch, length, this.dim], -1e4);
    const result = rat(
      {
        query: repeat(this.query.forward(x)),
        key: repeat(this.key.forward(x)),
        value: split(this.value.forward(x), heads),
        logDecay: split(logDecay, heads),
      },
      { state: state as unknown as RatState, chunkSize, rotaryBase, form, ...(lengths ? { lengths } : {}) },
    );
    const joined = tf.reshape(result.output, [batch, length, this.dim]);
    const output = this.output.forward(tf.mul(joined, tf.sigmoid(this.gate.forward(x)))) as tf.Tensor3D;
    return { output, state: result.state };
  }
}
