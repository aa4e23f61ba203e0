import { deriveSeed, divideHeads, GatedRmsNorm, Linear, Parameter, parseConfig, positiveInteger, RmsNorm } from '@seqloom/core';
import type { MixerResult, MixInput } from '@seqloom/core';
import * as v from 'valibot';
import { deltaEntries, DeltaLayer, splitHeads } from '../rule/delta-layer.ts';
import { unitLength } from '../rule/unit-length.ts';
import { decayGate, logRates, stepBiases } from './decay-gate.ts';
import { gatedDeltaRule } from './gated-delta-net.ts';

const Schema = v.strictObject({
  ...deltaEntries,
  /** query and key heads */
  heads: positiveInteger,
  /** channels of a query or key head; default: 3/4 dim / heads, and dim / heads without an output gate */
  headDim: v.optional(positiveInteger),
  /** value heads, a multiple of heads, each with a memory of its own; default: heads */
  valueHeads: v.optional(positiveInteger),
  /** channels of a value head; default: 2 headDim */
  valueDim: v.optional(positiveInteger),
  /** gate the output norm with silu(x W) */
  outputGate: v.optional(v.boolean(), true),
});

/** Config of `GatedDeltaNet`: dim and heads; all else has a default. */
export type GatedDeltaNetConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'gated-delta-net';

/**
 * Gated DeltaNet as a layer: projections, short convolutions and silu on queries, keys and values, queries and keys of length one, the
 * gated delta rule with `g = -exp(logRate) softplus(x W + stepBias)`, an RMS norm per head with an output gate, the output projection.
 *
 * Parameters at the default widths: 6 D^2 for query, key (3/4 D^2 each), value, gate and output (3/2 D^2 each), or for query and key
 * (D^2 each), value and output (2 D^2 each) without the gate. Beside them D heads for beta and as many for the decay, 2 heads for rates
 * and step biases, 12 D for the convolutions of four taps (16 D without the gate), the norm's valueDim.
 *
 * @see Yang, Kautz & Hatamizadeh 2024, arXiv 2412.06464
 */
export class GatedDeltaNet extends DeltaLayer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly decay: Linear;
  /** log of the rate of decay of a value head, [Hv] */
  readonly logRate: Parameter;
  /** [Hv] */
  readonly stepBias: Parameter;
  readonly gate: Linear | null;
  readonly norm: RmsNorm | GatedRmsNorm;

  constructor(config: GatedDeltaNetConfig) {
    const parsed = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, valueHeads = heads, outputGate, seed, epsilon } = parsed;
    const headDim = parsed.headDim ?? divideHeads(MECHANISM, outputGate ? 0.75 * dim : dim, heads);
    const valueDim = parsed.valueDim ?? 2 * headDim;
    super(MECHANISM, { ...parsed, headDim, valueHeads, valueDim });
    this.config = parsed;
    this.decay = new Linear({ in: dim, out: valueHeads, seed: deriveSeed(seed, 'decay') });
    this.logRate = new Parameter([valueHeads], logRates(0, 16), deriveSeed(seed, 'logRate'));
    this.stepBias = new Parameter([valueHeads], stepBiases, deriveSeed(seed, 'stepBias'));
    this.gate = outputGate ? new Linear({ in: dim, out: valueHeads * valueDim, seed: deriveSeed(seed, 'gate') }) : null;
    this.norm = this.gate ? new GatedRmsNorm({ dim: valueDim, epsilon }) : new RmsNorm({ dim: valueDim, epsilon });
  }

  override mixingFlops(): number {
    const { headDim, valueHeads, valueDim } = this.sizes;
    return super.mixingFlops() + valueHeads * headDim * valueDim;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid } = input;
    const { form, chunkSize } = this.config;
    const { query, key, value, windows } = this.heads(input);
    const tensors = {
      query: unitLength(query),
      key: unitLength(key),
      value,
      logDecay: decayGate(this.decay.forward(x), this.logRate.value, this.stepBias.value),
      beta: this.strength(x),
    };
    const result = gatedDeltaRule(tensors, { form, chunkSize, state: { memory: state.memory! }, ...(valid ? { mask: valid } : {}) });
    const read =
      this.norm instanceof GatedRmsNorm
        ? this.norm.forward(result.output, splitHeads(this.gate!.forward(x), this.sizes.valueHeads))
        : this.norm.forward(result.output);
    return this.finish(input, read, result.state, windows);
  }
}
