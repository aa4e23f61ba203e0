import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  checkSetting,
  deriveSeed,
  divideHeads,
  layerEntries,
  Linear,
  naturalNumber,
  parseConfig,
  positiveInteger,
  positiveNumber,
  RmsNorm,
  SequenceMixer,
  ShortConvolution,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { HgrnLowerBounds } from '../hgrn/lower-bounds.ts';
import { convolveRows, windowShapes } from '../rule/short-windows.ts';
import type { RoleConvolutions } from '../rule/short-windows.ts';
import { forgetGate } from './forget-gate.ts';
import { hgrn2 } from './hgrn2.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** default: dim / headDim */
  heads: v.optional(positiveInteger),
  /** channels K of a query or forget-gate head, the expansion of the state; default: dim / heads, or 128 when heads is left out too */
  headDim: v.optional(positiveInteger),
  /** number of HGRN2 layers in the model; 1: no lower bound */
  layers: v.optional(positiveInteger, 1),
  /** index of this layer among them, from 0; 0: no lower bound */
  layer: v.optional(naturalNumber, 0),
  /** depthwise causal convolutions, without an activation, on the projections of query, forget gate and value */
  shortConvolution: v.optional(v.boolean(), false),
  /** taps of the short convolutions */
  kernelSize: v.optional(positiveInteger, 4),
  epsilon: v.optional(positiveNumber, 1e-5),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `Hgrn2`: dim, and heads or headDim; all else has a default. */
export type Hgrn2Config = v.InferInput<typeof Schema>;

const MECHANISM = 'hgrn2';
const EXPANSION = 128;

/**
 * HGRN2 as a layer: `q = silu(W_q x)`, `f = gamma + (1 - gamma) sigmoid(W_f x)`, `v = W_i x` without an activation, the op with the key 1 - f,
 * one RMS norm over all heads together, and the output projection; no further gate.
 *
 * Parameters: 2 dim^2 for value and output, 2 dim heads headDim (with the defaults 2 dim^2) for query and forget gate, and dim for the norm; the
 * lower bounds are layers heads headDim per model. The state is `memory` [B, heads, headDim, dim / heads], and with short convolutions
 * `queryWindow`, `forgetWindow` and `valueWindow`, whatever the length.
 *
 * @see Qin et al. 2024, arXiv 2404.07904; layer as in flash-linear-attention
 */
export class Hgrn2 extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly query: Linear;
  readonly forget: Linear;
  readonly value: Linear;
  readonly queryConvolution: ShortConvolution | null;
  readonly forgetConvolution: ShortConvolution | null;
  readonly valueConvolution: ShortConvolution | null;
  readonly lowerBounds: HgrnLowerBounds | null;
  readonly norm: RmsNorm;
  readonly output: Linear;
  readonly #heads: number;
  readonly #headDim: number;

  /**
   * @param config see `Hgrn2Config`
   * @param lowerBounds those of the whole model, shared by its layers; left out, a layer above the first learns its own
   * @throws SeqLoomError on a config that does not fit
   */
  constructor(config: Hgrn2Config, lowerBounds?: HgrnLowerBounds) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, layers, layer, shortConvolution, kernelSize, epsilon, seed, outputDeviation: deviation } = this.config;
    const heads = this.config.heads ?? divideHeads(MECHANISM, dim, this.config.headDim ?? EXPANSION, 'config.headDim');
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    divideHeads(MECHANISM, dim, heads);
    const width = heads * headDim;
    checkSetting(
      MECHANISM,
      'config.layer',
      layer < layers,
      `below layers = ${layers}`,
      layer,
      'Count the HGRN2 layers of the model from 0.',
    );
    const bounds = lowerBounds?.weight.shape;
    const fits = !bounds || (bounds[0] === layers && bounds[1] === width);
    const wanted = `those of ${layers} layers of ${width} channels`;
    checkSetting(MECHANISM, 'lowerBounds', fits, wanted, bounds, 'Make them for the layers of this config.');
    this.dim = dim;
    this.#heads = heads;
    this.#headDim = headDim;
    const project = (name: string, out: number): Linear => new Linear({ in: dim, out, seed: deriveSeed(seed, name) });
    this.query = project('query', width);
    this.forget = project('forget', width);
    this.value = project('value', dim);
    const convolve = (name: string, channels: number): ShortConvolution | null =>
      shortConvolution ? new ShortConvolution({ channels, kernelSize, activation: 'none', seed: deriveSeed(seed, name) }) : null;
    this.queryConvolution = convolve('queryConvolution', width);
    this.forgetConvolution = convolve('forgetConvolution', width);
    this.valueConvolution = convolve('valueConvolution', dim);
    this.lowerBounds = layer === 0 ? null : (lowerBounds ?? new HgrnLowerBounds({ layers, width }));
    this.norm = new RmsNorm({ dim, epsilon });
    this.output = new Linear({ in: dim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    return { memory: [batch, this.#heads, this.#headDim, this.dim / this.#heads], ...windowShapes(this.#convolutions, batch) };
  }

  get #convolutions(): RoleConvolutions<'query' | 'forget' | 'value'> {
    return { query: this.queryConvolution, forget: this.forgetConvolution, value: this.valueConvolution };
  }

  override mixingFlops(): number {
    const { kernelSize, shortConvolution } = this.config;
    const windows = 2 * this.#heads * this.#headDim + this.dim;
    return 4 * this.#headDim * this.dim + (shortConvolution ? 2 * kernelSize * windows : 0);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { form, chunkSize, layer } = this.config;
    const [batch, length] = x.shape;
    const split = (flat: tf.Tensor): tf.Tensor => tf.reshape(flat, [batch, length, this.#heads, flat.shape[2]! / this.#heads]);
    const projected = { query: this.query.forward(x), forget: this.forget.forward(x), value: this.value.forward(x) };
    const { rows, windows } = convolveRows(projected, this.#convolutions, { state, lengths });
    const { logDecay, write } = forgetGate(rows.forget, this.lowerBounds ? this.lowerBounds.at(layer) : null);
    const result = hgrn2(
      {
        query: split(tf.mul(rows.query, tf.sigmoid(rows.query))),
        logDecay: split(logDecay),
        write: split(write),
        value: split(rows.value),
      },
      { state: { memory: state.memory! }, form, chunkSize, ...(valid ? { mask: valid } : {}) },
    );
    const normalised = this.norm.forward(tf.reshape(result.output, [batch, length, this.dim]));
    const output = this.output.forward(normalised) as tf.Tensor3D;
    return { output, state: { ...result.state, ...windows, position: advance(state.position, x, lengths) } };
  }
}
