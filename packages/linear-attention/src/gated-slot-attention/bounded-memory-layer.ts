import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  checkSetting,
  deriveSeed,
  divideHeads,
  GatedRmsNorm,
  layerEntries,
  Linear,
  parseConfig,
  positiveInteger,
  positiveNumber,
  rotary,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { EMPTY_LOG } from '../linear-attention/efficient-keys.ts';
import { rotationAngles, rotationFrequencies } from '../retention/rotation.ts';
import { boundedMemoryControl } from './bounded-memory-control.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** query, key, value and slot heads */
  heads: v.optional(positiveInteger, 4),
  /** channels of a query or key head; default: dim / (2 heads) */
  headDim: v.optional(positiveInteger),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  /** slots per head; default: headDim */
  slots: v.optional(positiveInteger),
  /** slot logits are kept between -clamp and clamp */
  clamp: v.optional(positiveNumber, 32),
  /** rotary positions on queries and keys */
  rotary: v.optional(v.boolean(), true),
  rotaryBase: v.optional(positiveNumber, 10000),
  epsilon: v.optional(positiveNumber, 1e-5),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `BoundedMemoryControl`: dim; all else has a default. */
export type BoundedMemoryControlConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'gated-slot-attention';

/**
 * The ABC layer: projections without biases to query, key, value and slot logits, rotary positions, the op, an RMS norm per head with a
 * swish gate of the input, and the output projection.
 *
 * Parameters with the defaults: 4 dim^2 (query and key dim^2 / 2 each, value, gate and output dim^2 each), plus heads slots dim for the
 * slot logits and dim / heads for the norm. The state is `keySlots` [B, heads, slots, headDim], `valueSlots` [B, heads, slots, valueDim] and
 * `logNormaliser` [B, heads, slots], whatever the length.
 *
 * @see Peng et al. 2021, arXiv 2110.02488; layer as in flash-linear-attention
 */
export class BoundedMemoryControl extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly slot: Linear;
  readonly gate: Linear;
  readonly norm: GatedRmsNorm;
  readonly output: Linear;
  readonly #headDim: number;
  readonly #valueDim: number;
  readonly #slots: number;

  constructor(config: BoundedMemoryControlConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, epsilon, seed, outputDeviation: deviation } = this.config;
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, 2 * heads);
    const valueDim = this.config.valueDim ?? divideHeads(MECHANISM, dim, heads);
    const even = !this.config.rotary || headDim % 2 === 0;
    checkSetting(MECHANISM, 'config.headDim', even, 'even for rotary positions', headDim, 'Choose an even width, or rotary: false.');
    this.dim = dim;
    this.#headDim = headDim;
    this.#valueDim = valueDim;
    this.#slots = this.config.slots ?? headDim;
    const project = (name: string, width: number): Linear => new Linear({ in: dim, out: heads * width, seed: deriveSeed(seed, name) });
    this.query = project('query', headDim);
    this.key = project('key', headDim);
    this.value = project('value', valueDim);
    this.slot = project('slot', this.#slots);
    this.gate = project('gate', valueDim);
    this.norm = new GatedRmsNorm({ dim: valueDim, epsilon });
    this.output = new Linear({ in: heads * valueDim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    const slots = [batch, this.config.heads, this.#slots];
    return { keySlots: [...slots, this.#headDim], valueSlots: [...slots, this.#valueDim], logNormaliser: slots };
  }

  override mixingFlops(): number {
    return 4 * this.config.heads * this.#slots * (this.#headDim + this.#valueDim);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, clamp, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const project = (map: Linear, width: number): tf.Tensor => tf.reshape(map.forward(x), [batch, length, heads, width]);
    const turn = this.#turn(state.position, length);
    const { keySlots, valueSlots, logNormaliser, position } = state as Record<
      'keySlots' | 'valueSlots' | 'logNormaliser' | 'position',
      tf.Tensor
    >;
    // a new state is all zeros, but the log of an empty sum is not
    const started = tf.greater(tf.reshape(position, [batch, 1, 1]), 0);
    const before = tf.where(started, logNormaliser, tf.add(tf.zerosLike(logNormaliser), EMPTY_LOG));
    const result = boundedMemoryControl(
      {
        query: turn(project(this.query, this.#headDim)),
        key: turn(project(this.key, this.#headDim)),
        value: project(this.value, this.#valueDim),
        slotLogits: tf.clipByValue(project(this.slot, this.#slots), -clamp, clamp),
      },
      { state: { keySlots, valueSlots, logNormaliser: before }, form, chunkSize, ...(valid ? { mask: valid } : {}) },
    );
    const normalised = this.norm.forward(result.output, project(this.gate, this.#valueDim));
    const output = this.output.forward(tf.reshape(normalised, [batch, length, heads * this.#valueDim])) as tf.Tensor3D;
    const last = advance(position, x, lengths);
    // a row that has seen nothing keeps the zeros of a new state
    const empty = tf.cast(tf.greater(tf.reshape(last, [batch, 1, 1]), 0), 'float32');
    return { output, state: { ...result.state, logNormaliser: tf.mul(result.state.logNormaliser, empty), position: last } };
  }

  // rotates [B, T, H, K] by the token's position
  #turn(position: tf.Tensor, length: number): (heads: tf.Tensor) => tf.Tensor {
    if (!this.config.rotary) return (heads) => heads;
    const { cos, sin } = rotationAngles(position, length, rotationFrequencies(this.#headDim, 'fla', this.config.rotaryBase));
    return (heads) => rotary({ input: heads, cos, sin });
  }
}
