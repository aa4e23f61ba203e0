import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { parseConfig, positiveInteger } from '../config.ts';
import { causalConv1d } from '../kernel/causal-conv1d.ts';
import { uniform } from '../module/initialiser.ts';
import { Linear } from '../module/linear.ts';
import { Parameter } from '../module/parameter.ts';
import { deriveSeed } from '../module/random.ts';
import type { StateShapes } from '../state/state.ts';
import { advance, SequenceMixer } from './sequence-mixer.ts';
import type { MixerResult, MixInput } from './sequence-mixer.ts';

const Schema = v.strictObject({
  dim: positiveInteger,
  /** taps of the convolution, the current token included */
  kernelSize: v.optional(positiveInteger, 3),
  /** inner width as a multiple of dim */
  expand: v.optional(positiveInteger, 2),
  seed: v.optional(v.number(), 0),
  outputDeviation: v.optional(v.number()),
});

/** Config of `GatedConvolution`. */
export type GatedConvolutionConfig = v.InferInput<typeof Schema>;

/**
 * The gated short convolution of BASED: `[u, g] = W_in x + b_in`, `y = W_out (silu(conv u) * g) + b_out`.
 *
 * Carries the last `kernelSize - 1` inputs of the convolution as state.
 *
 * Source: Arora et al. 2024, arXiv 2402.18668 (BaseConv).
 */
export class GatedConvolution extends SequenceMixer {
  readonly mechanism = 'gated-convolution';
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly input: Linear;
  readonly taps: Parameter;
  readonly output: Linear;

  constructor(config: GatedConvolutionConfig) {
    super();
    this.config = parseConfig('gated-convolution', Schema, config);
    const { dim, kernelSize, expand, seed, outputDeviation } = this.config;
    this.dim = dim;
    this.input = new Linear({ in: dim, out: 2 * expand * dim, bias: true, seed: deriveSeed(seed, 'input') });
    this.taps = new Parameter([expand * dim, kernelSize], uniform(1 / Math.sqrt(kernelSize)), deriveSeed(seed, 'taps'));
    this.output = new Linear({
      in: expand * dim,
      out: dim,
      bias: true,
      seed: deriveSeed(seed, 'output'),
      deviation: outputDeviation,
    });
  }

  stateShapes(batch: number): StateShapes {
    return { window: [batch, this.config.kernelSize - 1, this.config.expand * this.dim] };
  }

  override mixingFlops(): number {
    return (2 * this.config.kernelSize + 1) * this.config.expand * this.dim;
  }

  mix({ x, state, lengths }: MixInput): MixerResult {
    const [u, gate] = tf.split(this.input.forward(x), 2, 2) as [tf.Tensor3D, tf.Tensor3D];
    const conv = causalConv1d(
      { input: u, weight: this.taps.value as tf.Tensor2D, state: state.window as tf.Tensor3D, ...(lengths ? { lengths } : {}) },
      { activation: 'silu' },
    );
    const output = this.output.forward(tf.mul(conv.output, gate)) as tf.Tensor3D;
    return { output, state: { window: conv.state, position: advance(state.position, x, lengths) } };
  }
}
