import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  deriveSeed,
  divideHeads,
  layerEntries,
  Linear,
  logSigmoid,
  parseConfig,
  positiveInteger,
  positiveNumber,
  RmsNorm,
  SequenceMixer,
  ShortConvolution,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { convolveRows, windowShapes } from '../rule/short-windows.ts';
import type { RoleConvolutions } from '../rule/short-windows.ts';
import { gatedSlotAttention } from './gated-slot-attention.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** query heads */
  heads: v.optional(positiveInteger, 4),
  /** key, value and slot heads, a divisor of heads; default: heads */
  keyHeads: v.optional(positiveInteger),
  /** channels of a query or key head; default: dim / heads */
  headDim: v.optional(positiveInteger),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  /** slots per head */
  slots: v.optional(positiveInteger, 64),
  /** log decays are divided by it, which brings them close to 0 */
  gateNormaliser: v.optional(positiveNumber, 8),
  /** factor of the slot scores */
  scale: v.optional(v.pipe(v.number(), v.finite()), 1),
  /** activation of queries and keys */
  featureMap: v.optional(v.picklist(['silu', 'relu', 'identity']), 'silu'),
  /** depthwise convolution and SiLU on queries, keys and values */
  shortConvolution: v.optional(v.boolean(), false),
  /** taps of the short convolutions */
  kernelSize: v.optional(positiveInteger, 4),
  epsilon: v.optional(positiveNumber, 1e-5),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `GatedSlotAttention`: dim; all else has a default. */
export type GatedSlotAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'gated-slot-attention';

/**
 * The GSA layer: projections without biases to query, key and value (with short convolutions, if wanted) and SiLU, slot gates
 * `logsigmoid(x W_f) / gateNormaliser`, the op, and `y = W_o rms(silu(o))` with one norm over all heads; no output gate.
 *
 * Parameters with the defaults: 4 dim^2, plus heads slots dim for the gates and dim for the norm. The state is `keySlots` [B, keyHeads,
 * slots, headDim] and `valueSlots` [B, keyHeads, slots, valueDim], and with short convolutions `queryWindow`, `keyWindow` and
 * `valueWindow`, whatever the length.
 *
 * @see Zhang et al. 2024, arXiv 2409.07146; layer as in flash-linear-attention
 */
export class GatedSlotAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly forget: Linear;
  readonly queryConvolution: ShortConvolution | null;
  readonly keyConvolution: ShortConvolution | null;
  readonly valueConvolution: ShortConvolution | null;
  readonly norm: RmsNorm;
  readonly output: Linear;
  readonly #keyHeads: number;
  readonly #headDim: number;
  readonly #valueDim: number;

  constructor(config: GatedSlotAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, keyHeads = heads, slots, shortConvolution, kernelSize, epsilon, seed, outputDeviation: deviation } = this.config;
    divideHeads(MECHANISM, heads, keyHeads, 'config.keyHeads');
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    const valueDim = this.config.valueDim ?? divideHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.#keyHeads = keyHeads;
    this.#headDim = headDim;
    this.#valueDim = valueDim;
    const project = (name: string, out: number): Linear => new Linear({ in: dim, out, seed: deriveSeed(seed, name) });
    const convolve = (name: string, channels: number): ShortConvolution | null =>
      shortConvolution ? new ShortConvolution({ channels, kernelSize, seed: deriveSeed(seed, name) }) : null;
    this.query = project('query', heads * headDim);
    this.key = project('key', keyHeads * headDim);
    this.value = project('value', keyHeads * valueDim);
    this.forget = project('forget', keyHeads * slots);
    this.queryConvolution = convolve('queryConvolution', heads * headDim);
    this.keyConvolution = convolve('keyConvolution', keyHeads * headDim);
    this.valueConvolution = convolve('valueConvolution', keyHeads * valueDim);
    this.norm = new RmsNorm({ dim: heads * valueDim, epsilon });
    this.output = new Linear({ in: heads * valueDim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    const { slots } = this.config;
    return {
      keySlots: [batch, this.#keyHeads, slots, this.#headDim],
      valueSlots: [batch, this.#keyHeads, slots, this.#valueDim],
      ...windowShapes(this.#convolutions, batch),
    };
  }

  get #convolutions(): RoleConvolutions<'query' | 'key' | 'value'> {
    return { query: this.queryConvolution, key: this.keyConvolution, value: this.valueConvolution };
  }

  override mixingFlops(): number {
    const { heads, slots, kernelSize, shortConvolution } = this.config;
    const windows = heads * this.#headDim + this.#keyHeads * (this.#headDim + this.#valueDim);
    return 4 * heads * slots * (this.#headDim + this.#valueDim) + (shortConvolution ? 2 * kernelSize * windows : 0);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, gateNormaliser, scale, featureMap, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const split = (flat: tf.Tensor, count: number): tf.Tensor => tf.reshape(flat, [batch, length, count, flat.shape[2]! / count]);
    const projected = { query: this.query.forward(x), key: this.key.forward(x), value: this.value.forward(x) };
    const { rows, windows } = convolveRows(projected, this.#convolutions, { state, lengths });
    const result = gatedSlotAttention(
      {
        query: split(activate(rows.query, featureMap), heads),
        key: split(activate(rows.key, featureMap), this.#keyHeads),
        value: split(activate(rows.value, 'silu'), this.#keyHeads),
        logDecay: split(tf.div(logSigmoid(this.forget.forward(x)), gateNormaliser), this.#keyHeads),
      },
      {
        state: { keySlots: state['keySlots']!, valueSlots: state['valueSlots']! },
        scale,
        form,
        chunkSize,
        ...(valid ? { mask: valid } : {}),
      },
    );
    const joined = tf.reshape(result.output, [batch, length, heads * this.#valueDim]);
    const output = this.output.forward(this.norm.forward(activate(joined, 'silu'))) as tf.Tensor3D;
    return { output, state: { ...result.state, ...windows, position: advance(state.position, x, lengths) } };
  }
}

function activate(x: tf.Tensor, name: 'silu' | 'relu' | 'identity'): tf.Tensor {
  if (name === 'identity') return x;
  return name === 'relu' ? tf.relu(x) : tf.mul(x, tf.sigmoid(x));
}
