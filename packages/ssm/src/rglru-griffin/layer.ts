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
  ShortConvolution,
  zeros,
} from '@seqloom/core';
import type { Initialiser, MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { blockLinear } from './block-linear.ts';
import { rgLru } from './rglru-griffin.ts';

const between = v.pipe(v.number(), v.gtValue(0, 'above 0'), v.ltValue(1, 'below 1'));

const Schema = v.strictObject({
  ...layerEntries,
  /** blocks of channels that the gates keep apart, a divisor of innerDim */
  heads: positiveInteger,
  /** channels of the recurrence, default dim */
  innerDim: v.optional(positiveInteger),
  /** taps of the short convolution */
  kernelSize: v.optional(positiveInteger, 4),
  /** range of a^(1/8) at the start, for an open gate */
  decayMin: v.optional(between, 0.9),
  decayMax: v.optional(between, 0.999),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
});

/** Config of `GriffinRecurrence`: dim and heads; all else has a default. */
export type GriffinRecurrenceConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'rglru-griffin';

// squares of the decay are even between the squares of both bounds; softplus(Lambda) = -log of the decay
function decayRange(min: number, max: number): Initialiser {
  return ([width], random) =>
    Float32Array.from({ length: width! }, () => {
      const logDecay = 0.5 * Math.log(min ** 2 + (max ** 2 - min ** 2) * random.uniform());
      return Math.log(Math.expm1(-logDecay));
    });
}

/**
 * The recurrent block of Griffin and Hawk: `(gelu(gate x)) * RG-LRU(conv(value x))` and a projection out; both gates of the unit are
 * block-diagonal maps of its input.
 *
 * Parameters with W = innerDim = D, H = heads, K = kernelSize: 3 D W + 2 W + D + (K + 1) W + 2 (W^2 / H + W) + W. The state is `hidden` [B, W] and
 * `window` [B, K - 1, W], whatever the length.
 *
 * @see De et al. 2024, arXiv 2402.19427
 */
export class GriffinRecurrence extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly value: Linear;
  readonly gate: Linear;
  readonly convolution: ShortConvolution;
  /** [H, W / H, W / H] */
  readonly inputGateWeight: Parameter;
  readonly inputGateBias: Parameter;
  readonly recurrenceGateWeight: Parameter;
  readonly recurrenceGateBias: Parameter;
  /** Lambda, [W] */
  readonly decayParameter: Parameter;
  readonly output: Linear;
  readonly #innerDim: number;

  constructor(config: GriffinRecurrenceConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, innerDim = dim, kernelSize, decayMin, decayMax, seed, outputDeviation: deviation } = this.config;
    const width = divideHeads(MECHANISM, innerDim, heads);
    this.dim = dim;
    this.#innerDim = innerDim;
    this.value = new Linear({ in: dim, out: innerDim, bias: true, seed: deriveSeed(seed, 'value') });
    this.gate = new Linear({ in: dim, out: innerDim, bias: true, seed: deriveSeed(seed, 'gate') });
    this.convolution = new ShortConvolution({
      channels: innerDim,
      kernelSize,
      bias: true,
      activation: 'none',
      seed: deriveSeed(seed, 'convolution'),
    });
    const weight = (name: string): Parameter => new Parameter([heads, width, width], normal(width ** -0.5), deriveSeed(seed, name));
    const bias = (): Parameter => new Parameter([heads, width], zeros, 0, { decay: false });
    this.inputGateWeight = weight('inputGateWeight');
    this.inputGateBias = bias();
    this.recurrenceGateWeight = weight('recurrenceGateWeight');
    this.recurrenceGateBias = bias();
    this.decayParameter = new Parameter([innerDim], decayRange(decayMin, decayMax), deriveSeed(seed, 'decayParameter'));
    this.output = new Linear({ in: innerDim, out: dim, bias: true, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    return { hidden: [batch, this.#innerDim], window: this.convolution.stateShape(batch) };
  }

  override mixingFlops(): number {
    return (2 * this.config.kernelSize + 12) * this.#innerDim;
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const [batch, length] = x.shape;
    const convolved = this.convolution.forward(this.value.forward(x) as tf.Tensor3D, { state: state.window!, lengths });
    const input = convolved.output;
    // the first token of a row begins its sequence
    const starts = tf.cast(tf.equal(tf.reshape(state.position, [batch, 1]), 0), 'float32');
    const first = tf.cast(tf.less(tf.range(0, length, 1, 'float32'), 1), 'float32');
    const { output, state: next } = rgLru(
      {
        input,
        inputGate: blockLinear(input, this.inputGateWeight.value, this.inputGateBias.value),
        recurrenceGate: blockLinear(input, this.recurrenceGateWeight.value, this.recurrenceGateBias.value),
        decayParameter: this.decayParameter.value,
      },
      {
        form: this.config.form,
        state: { hidden: state.hidden! },
        reset: tf.mul(starts, tf.reshape(first, [1, length])),
        ...(valid ? { mask: valid } : {}),
      },
    );
    return {
      output: this.output.forward(tf.mul(gelu(this.gate.forward(x)), output)) as tf.Tensor3D,
      state: { hidden: next.hidden, window: convolved.state, position: advance(state.position, x, lengths) },
    };
  }
}

// the approximation by tanh, as the original has it
function gelu(x: tf.Tensor): tf.Tensor {
  const inner = tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), Math.sqrt(2 / Math.PI));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}
