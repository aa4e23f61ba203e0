import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  deriveSeed,
  divideHeads,
  GatedRmsNorm,
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
import { gatedLinearAttention } from './gated-linear-attention.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** query heads */
  heads: v.optional(positiveInteger, 4),
  /** key, value and gate heads, a divisor of heads; default: heads */
  keyHeads: v.optional(positiveInteger),
  /** channels of a query or key head; default: dim / (2 heads) */
  headDim: v.optional(positiveInteger),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  /** inner width of the forget gate's two projections */
  gateRank: v.optional(positiveInteger, 16),
  /** log decays are divided by it, which brings them close to 0 */
  gateNormaliser: v.optional(positiveNumber, 16),
  /** lower bound on log decays, below 0; default: none */
  minimumLogDecay: v.optional(v.pipe(v.number(), v.maxValue(0, 'at most 0'))),
  /** swish gate on the normalised output */
  outputGate: v.optional(v.boolean(), true),
  /** depthwise convolution and SiLU on queries, keys and values */
  shortConvolution: v.optional(v.boolean(), false),
  /** taps of the short convolutions */
  kernelSize: v.optional(positiveInteger, 4),
  epsilon: v.optional(positiveNumber, 1e-5),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `GatedLinearAttention`: dim; all else has a default. */
export type GatedLinearAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'gated-linear-attention';

/**
 * The GLA layer: projections without biases to query, key and value (with short convolutions, if wanted), a forget gate
 * `logsigmoid(W_2 W_1 x + b) / gateNormaliser` per key channel, the op, an RMS norm per head, a swish output gate and the output projection.
 *
 * Parameters with the defaults: 4 dim^2 + 24 dim + dim / 2 for gateRank 16 (query and key dim^2 / 2 each, value, gate and output dim^2
 * each), plus the norm's dim / heads. The state is `memory` [B, keyHeads, headDim, valueDim], and with short convolutions `queryWindow`,
 * `keyWindow` and `valueWindow`, whatever the length.
 *
 * @see Yang et al. 2023, arXiv 2312.06635
 */
export class GatedLinearAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  /** W_1 and W_2 of the forget gate */
  readonly forgetDown: Linear;
  readonly forgetUp: Linear;
  readonly gate: Linear | null;
  readonly queryConvolution: ShortConvolution | null;
  readonly keyConvolution: ShortConvolution | null;
  readonly valueConvolution: ShortConvolution | null;
  readonly norm: GatedRmsNorm | RmsNorm;
  readonly output: Linear;
  readonly #keyHeads: number;
  readonly #headDim: number;
  readonly #valueDim: number;

  constructor(config: GatedLinearAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, keyHeads = heads, gateRank, outputGate, shortConvolution, kernelSize, epsilon, seed } = this.config;
    divideHeads(MECHANISM, heads, keyHeads, 'config.keyHeads');
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, 2 * heads);
    const valueDim = this.config.valueDim ?? divideHeads(MECHANISM, dim, heads);
    this.dim = dim;
    this.#keyHeads = keyHeads;
    this.#headDim = headDim;
    this.#valueDim = valueDim;
    const project = (name: string, out: number): Linear => new Linear({ in: dim, out, seed: deriveSeed(seed, name) });
    this.query = project('query', heads * headDim);
    this.key = project('key', keyHeads * headDim);
    this.value = project('value', keyHeads * valueDim);
    this.forgetDown = project('forgetDown', gateRank);
    this.forgetUp = new Linear({ in: gateRank, out: keyHeads * headDim, bias: true, seed: deriveSeed(seed, 'forgetUp') });
    this.gate = outputGate ? project('gate', heads * valueDim) : null;
    const convolve = (name: string, channels: number): ShortConvolution | null =>
      shortConvolution ? new ShortConvolution({ channels, kernelSize, seed: deriveSeed(seed, name) }) : null;
    this.queryConvolution = convolve('queryConvolution', heads * headDim);
    this.keyConvolution = convolve('keyConvolution', keyHeads * headDim);
    this.valueConvolution = convolve('valueConvolution', keyHeads * valueDim);
    this.norm = outputGate ? new GatedRmsNorm({ dim: valueDim, epsilon }) : new RmsNorm({ dim: valueDim, epsilon });
    const { outputDeviation: deviation } = this.config;
    this.output = new Linear({ in: heads * valueDim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    return { memory: [batch, this.#keyHeads, this.#headDim, this.#valueDim], ...windowShapes(this.#convolutions, batch) };
  }

  get #convolutions(): RoleConvolutions<'query' | 'key' | 'value'> {
    return { query: this.queryConvolution, key: this.keyConvolution, value: this.valueConvolution };
  }

  override mixingFlops(): number {
    const { heads, kernelSize, shortConvolution } = this.config;
    const windows = heads * this.#headDim + this.#keyHeads * (this.#headDim + this.#valueDim);
    return 4 * heads * this.#headDim * this.#valueDim + (shortConvolution ? 2 * kernelSize * windows : 0);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, gateNormaliser, minimumLogDecay, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const split = (flat: tf.Tensor, count: number): tf.Tensor => tf.reshape(flat, [batch, length, count, flat.shape[2]! / count]);
    const projected = { query: this.query.forward(x), key: this.key.forward(x), value: this.value.forward(x) };
    const { rows, windows } = convolveRows(projected, this.#convolutions, { state, lengths });
    const logGate = tf.div(logSigmoid(this.forgetUp.forward(this.forgetDown.forward(x))), gateNormaliser);
    const logDecay = minimumLogDecay === undefined ? logGate : tf.maximum(logGate, minimumLogDecay);
    const result = gatedLinearAttention(
      {
        query: split(rows.query, heads),
        key: split(rows.key, this.#keyHeads),
        value: split(rows.value, this.#keyHeads),
        logDecay: split(logDecay, this.#keyHeads),
      },
      { state: { memory: state.memory! }, form, chunkSize, ...(valid ? { mask: valid } : {}) },
    );
    const normalised =
      this.norm instanceof GatedRmsNorm
        ? this.norm.forward(result.output, split(this.gate!.forward(x), heads))
        : this.norm.forward(result.output);
    const output = this.output.forward(tf.reshape(normalised, [batch, length, heads * this.#valueDim])) as tf.Tensor3D;
    return { output, state: { ...result.state, ...windows, position: advance(state.position, x, lengths) } };
  }
}
