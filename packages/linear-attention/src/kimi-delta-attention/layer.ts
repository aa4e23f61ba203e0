import { deriveSeed, divideHeads, GatedRmsNorm, Linear, Parameter, parseConfig, positiveInteger, zeros } from '@seqloom/core';
import type { MixerResult, MixInput } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { decayGate, logRates, stepBiases } from '../gated-delta-net/decay-gate.ts';
import { deltaEntries, DeltaLayer, splitHeads } from '../rule/delta-layer.ts';
import { unitLength } from '../rule/unit-length.ts';
import { kimiDeltaAttention } from './kimi-delta-attention.ts';

const Schema = v.strictObject({
  ...deltaEntries,
  /** query and key heads */
  heads: positiveInteger,
  /** channels of a query or key head; default: dim / heads */
  headDim: v.optional(positiveInteger),
  /** value heads, a multiple of heads, each with a memory of its own; default: heads */
  valueHeads: v.optional(positiveInteger),
  /** channels of a value head, and the inner width of both low-rank gates; default: headDim */
  valueDim: v.optional(positiveInteger),
  /** a learned vector on the output gate; the released Kimi Linear has none */
  gateBias: v.optional(v.boolean(), true),
  /** below 0: log decays lie between it and 0 (-5 in the reference); left out: they have no bound */
  lowestLogDecay: v.optional(v.pipe(v.number(), v.finite('finite'), v.ltValue(0, 'below 0'))),
});

/** Config of `KimiDeltaAttention`: dim and heads; all else has a default. */
export type KimiDeltaAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'kimi-delta-attention';

/**
 * Kimi Delta Attention as a layer: projections, short convolutions and silu on queries, keys and values, queries and keys of length one,
 * the delta rule with a decay per key channel, an RMS norm per head with a low-rank sigmoid gate, the output projection.
 *
 * Decay, from `f = x W1 W2 + stepBias`: `g = -exp(logRate) softplus(f)`, or with a lowest log decay l `g = l sigmoid(exp(logRate) f)`.
 *
 * Parameters with heads of K = V = D / heads channels: 4 D^2 for query, key, value and output, 4 D V for the low-rank decay and gate and D
 * for the bias of the gate if it has one, D heads for beta, D + heads for step biases and rates, 12 D for the convolutions of four taps,
 * V for the norm.
 *
 * @see Kimi Team 2025, arXiv 2510.26692
 */
export class KimiDeltaAttention extends DeltaLayer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly decayDown: Linear;
  readonly decayUp: Linear;
  /** log of the rate of decay of a value head, [Hv] */
  readonly logRate: Parameter;
  /** [Hv K] */
  readonly stepBias: Parameter;
  readonly gateDown: Linear;
  readonly gateUp: Linear;
  readonly norm: GatedRmsNorm;

  constructor(config: KimiDeltaAttentionConfig) {
    const parsed = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, valueHeads = heads, seed, epsilon } = parsed;
    const headDim = parsed.headDim ?? divideHeads(MECHANISM, dim, heads);
    const valueDim = parsed.valueDim ?? headDim;
    super(MECHANISM, { ...parsed, headDim, valueHeads, valueDim });
    this.config = parsed;
    const bounded = parsed.lowestLogDecay !== undefined;
    this.decayDown = new Linear({ in: dim, out: valueDim, seed: deriveSeed(seed, 'decayDown') });
    this.decayUp = new Linear({ in: valueDim, out: valueHeads * headDim, seed: deriveSeed(seed, 'decayUp') });
    this.logRate = new Parameter([valueHeads], bounded ? zeros : logRates(1, 16), deriveSeed(seed, 'logRate'));
    this.stepBias = new Parameter([valueHeads * headDim], stepBiases, deriveSeed(seed, 'stepBias'));
    this.gateDown = new Linear({ in: dim, out: valueDim, seed: deriveSeed(seed, 'gateDown') });
    this.gateUp = new Linear({ in: valueDim, out: valueHeads * valueDim, bias: parsed.gateBias, seed: deriveSeed(seed, 'gateUp') });
    this.norm = new GatedRmsNorm({ dim: valueDim, epsilon, activation: 'sigmoid' });
  }

  override mixingFlops(): number {
    const { headDim, valueHeads, valueDim } = this.sizes;
    return super.mixingFlops() + valueHeads * headDim * valueDim;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid } = input;
    const { form, chunkSize } = this.config;
    const { query, key, value, windows } = this.heads(input);
    const tensors = { query: unitLength(query), key: unitLength(key), value, logDecay: this.#logDecay(x), beta: this.strength(x) };
    const result = kimiDeltaAttention(tensors, { form, chunkSize, state: { memory: state.memory! }, ...(valid ? { mask: valid } : {}) });
    const gate = splitHeads(this.gateUp.forward(this.gateDown.forward(x)), this.sizes.valueHeads);
    return this.finish(input, this.norm.forward(result.output, gate), result.state, windows);
  }

  // [B, T, Hv, K]
  #logDecay(x: tf.Tensor3D): tf.Tensor {
    const { valueHeads, headDim } = this.sizes;
    const projected = splitHeads(this.decayUp.forward(this.decayDown.forward(x)), valueHeads);
    const stepBias = tf.reshape(this.stepBias.value, [valueHeads, headDim]);
    const logRate = tf.reshape(this.logRate.value, [valueHeads, 1]);
    const { lowestLogDecay: lowest } = this.config;
    if (lowest === undefined) return decayGate(projected, logRate, stepBias);
    return tf.mul(tf.sigmoid(tf.mul(tf.exp(logRate), tf.add(projected, stepBias))), lowest);
  }
}
