import { deriveSeed, divideHeads, fail, GatedRmsNorm, Linear, parseConfig, positiveInteger, RmsNorm } from '@seqloom/core';
import type { MixerResult, MixInput } from '@seqloom/core';
import type * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { applyFeatureMap, sumNormalise } from '../linear-attention/feature-maps.ts';
import { deltaEntries, DeltaLayer, splitHeads } from '../rule/delta-layer.ts';
import { unitLength } from '../rule/unit-length.ts';
import { deltaRule } from './delta-net.ts';

const Schema = v.strictObject({
  ...deltaEntries,
  /** query, key and value heads, each with a memory of its own */
  heads: positiveInteger,
  /** channels of a query or key head; default: dim / heads */
  headDim: v.optional(positiveInteger),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  /** act on queries and keys */
  activation: v.optional(v.picklist(['silu', 'relu', 'elu1', 'identity']), 'silu'),
  /** queries and keys are divided by their length, or by their sum as in the first delta rule (relu and elu1 alone) */
  normalise: v.optional(v.picklist(['length', 'sum']), 'length'),
  /** beta = sigmoid(x W); otherwise beta is one, and every write replaces what was there */
  learnedBeta: v.optional(v.boolean(), true),
  /** gate the output norm with silu(x W) */
  outputGate: v.optional(v.boolean(), false),
});

/** Config of `DeltaNet`: dim and heads; all else has a default. */
export type DeltaNetConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'delta-net';

/**
 * DeltaNet as a layer: projections, short convolutions and silu on queries, keys and values, queries and keys of length one, the delta
 * rule, an RMS norm per head (gated if wanted), the output projection.
 *
 * Parameters with keys and values as wide as dim D: 4 D^2 for query, key, value and output (5 D^2 with the gate), D heads for beta,
 * 12 D for the convolutions of four taps, D / heads for the norm.
 *
 * @see Yang et al. 2024, arXiv 2406.06484
 */
export class DeltaNet extends DeltaLayer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly gate: Linear | null;
  readonly norm: RmsNorm | GatedRmsNorm;

  constructor(config: DeltaNetConfig) {
    const parsed = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, activation, normalise, seed, epsilon } = parsed;
    const headDim = parsed.headDim ?? divideHeads(MECHANISM, dim, heads);
    const valueDim = parsed.valueDim ?? divideHeads(MECHANISM, dim, heads);
    if (normalise === 'sum' && (activation === 'silu' || activation === 'identity')) {
      fail({
        mechanism: MECHANISM,
        argument: 'config.normalise',
        wanted: `length with the activation ${activation}, whose sums cross zero`,
        given: 'sum',
        remedy: 'Choose the activation relu or elu1, or leave it out.',
      });
    }
    super(MECHANISM, { ...parsed, headDim, valueHeads: heads, valueDim, activation: activation === 'silu' ? 'silu' : 'none' });
    this.config = parsed;
    this.gate = parsed.outputGate ? new Linear({ in: dim, out: heads * valueDim, seed: deriveSeed(seed, 'gate') }) : null;
    this.norm = this.gate ? new GatedRmsNorm({ dim: valueDim, epsilon }) : new RmsNorm({ dim: valueDim, epsilon });
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid } = input;
    const { form, chunkSize } = this.config;
    const { query, key, value, windows } = this.heads(input);
    const tensors = { query: this.#normalise(query), key: this.#normalise(key), value, beta: this.strength(x) };
    const result = deltaRule(tensors, { form, chunkSize, state: { memory: state.memory! }, ...(valid ? { mask: valid } : {}) });
    const read =
      this.norm instanceof GatedRmsNorm
        ? this.norm.forward(result.output, splitHeads(this.gate!.forward(x), this.config.heads))
        : this.norm.forward(result.output);
    return this.finish(input, read, result.state, windows);
  }

  #normalise(rows: tf.Tensor4D): tf.Tensor {
    const { activation, normalise } = this.config;
    // silu is part of the convolution
    const features = activation === 'silu' ? rows : applyFeatureMap(rows, { name: activation });
    return normalise === 'sum' ? sumNormalise(features) : unitLength(features);
  }
}
