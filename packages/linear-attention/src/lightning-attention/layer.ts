import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  deriveSeed,
  divideHeads,
  fail,
  GatedRmsNorm,
  layerEntries,
  Linear,
  naturalNumber,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  RmsNorm,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { lightningDecayRates } from './decay-rates.ts';
import { lightningAttention } from './lightning-attention.ts';
import { firstAngles, relativePositions } from './relative-positions.ts';

const Schema = v.strictObject({
  ...layerEntries,
  heads: positiveInteger,
  /** channels of a head; default: dim / heads */
  headDim: v.optional(positiveInteger),
  /** minimax: SiLU on query, key and value, a learned norm and a sigmoid gate; transnormer: SiLU on query and key, a bare norm and a linear gate */
  variant: v.optional(v.picklist(['minimax', 'transnormer']), 'minimax'),
  /** decay rates of the heads; default: the variant's */
  schedule: v.optional(v.picklist(['minimax', 'transnormer', 'linear'])),
  /** index of this layer in its model, which its decay rates depend on */
  layer: v.optional(naturalNumber, 0),
  /** layers of the model */
  layers: v.optional(positiveInteger, 1),
  /** LRPE: queries and keys twice as wide, turned by their position with learned angles; in TransNormerLLM's first layer */
  relativePositions: v.optional(v.boolean(), false),
  epsilon: v.optional(positiveNumber, 1e-6),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  /** form of the causal pattern */
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `LightningAttention`: dim and heads; all else has a default. */
export type LightningAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'lightning-attention';

/**
 * Lightning attention as a layer, without biases; positions are left to the decay unless `relativePositions` adds LRPE.
 *
 * minimax: `q, k, v = silu(W x)`, `y = W_o (rms(o) * sigmoid(W_g x))`, the norm over all heads together, with weights.
 * transnormer: `q, k = silu(W x)`, `v = W_v x`, `y = W_o (rms(o) * W_u x)`, the norm over all heads together, without weights.
 *
 * Parameters with the defaults: 5 dim^2, and dim for the norm of minimax; LRPE adds dim. The state of the causal pattern is `memory`
 * [B, heads, headDim, headDim], with LRPE [B, heads, 2 headDim, headDim], whatever the length.
 *
 * @see MiniMax 2025, arXiv 2501.08313; Qin et al. 2023, arXiv 2307.14995
 */
export class LightningAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: 'causal-self' | 'noncausal-self';
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly gate: Linear;
  readonly norm: GatedRmsNorm | RmsNorm;
  readonly output: Linear;
  /** LRPE's angles per position [heads, headDim]; null without */
  readonly angles: Parameter | null;
  /** decay rate of each head; none for the noncausal pattern */
  readonly decayRates: readonly number[] | null;
  readonly #headDim: number;

  constructor(config: LightningAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, variant, schedule = variant, layer, layers, epsilon, pattern, seed, outputDeviation: deviation } = this.config;
    if (layer >= layers) {
      const wanted = `below layers = ${layers}`;
      fail({ mechanism: MECHANISM, argument: 'config.layer', wanted, given: String(layer), remedy: 'Count the layers from 0.' });
    }
    this.dim = dim;
    this.pattern = pattern;
    this.#headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    this.decayRates = pattern === 'causal-self' ? lightningDecayRates({ heads, layer, layers, schedule }) : null;
    const width = heads * this.#headDim;
    const project = (name: string): Linear => new Linear({ in: dim, out: width, seed: deriveSeed(seed, name) });
    this.query = project('query');
    this.key = project('key');
    this.value = project('value');
    this.gate = project('gate');
    this.norm =
      variant === 'minimax'
        ? new GatedRmsNorm({ dim: width, epsilon, activation: 'sigmoid' })
        : new RmsNorm({ dim: width, epsilon, affine: false });
    this.output = new Linear({ in: width, out: dim, seed: deriveSeed(seed, 'output'), deviation });
    this.angles = this.config.relativePositions ? new Parameter([heads, this.#headDim], firstAngles, 0, { decay: false }) : null;
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    return { memory: [batch, this.config.heads, this.#keyDim, this.#headDim] };
  }

  override mixingFlops(): number {
    return 4 * this.config.heads * this.#keyDim * this.#headDim;
  }

  get #keyDim(): number {
    return this.#headDim * (this.angles ? 2 : 1);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, variant, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const width = heads * this.#headDim;
    const silu = (rows: tf.Tensor): tf.Tensor => tf.mul(rows, tf.sigmoid(rows));
    const split = (rows: tf.Tensor): tf.Tensor => tf.reshape(rows, [batch, length, heads, this.#headDim]);
    const value = this.value.forward(x);
    const pair = [split(silu(this.query.forward(x))), split(silu(this.key.forward(x)))];
    const start = this.decayRates ? state.position : tf.zerosLike(state.position);
    const [query, key] = this.angles ? relativePositions(pair, this.angles.value, start) : pair;
    const result = lightningAttention(
      {
        query: query!,
        key: key!,
        value: split(variant === 'minimax' ? silu(value) : value),
      },
      {
        pattern: this.pattern,
        ...(this.decayRates ? { decayRates: this.decayRates, form, chunkSize, state: { memory: state.memory! } } : {}),
        ...(valid ? { mask: valid } : {}),
      },
    );
    const joined = tf.reshape(result.output, [batch, length, width]);
    const gate = this.gate.forward(x);
    const gated = this.norm instanceof GatedRmsNorm ? this.norm.forward(joined, gate) : tf.mul(this.norm.forward(joined), gate);
    const output = this.output.forward(gated) as tf.Tensor3D;
    const position = advance(state.position, x, lengths);
    return { output, state: this.decayRates ? { ...result.state, position } : { position } };
  }
}
