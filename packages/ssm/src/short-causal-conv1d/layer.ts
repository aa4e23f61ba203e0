import {
  advance,
  deriveSeed,
  layerEntries,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  SequenceMixer,
  uniform,
  zeros,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { shortCausalConv1d } from './short-causal-conv1d.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** taps, the current token included */
  kernelSize: v.optional(positiveInteger, 4),
  /** a learned vector */
  bias: v.optional(v.boolean(), true),
  activation: v.optional(v.picklist(['none', 'silu']), 'silu'),
  /** add the input to the output */
  residual: v.optional(v.boolean(), false),
});

/** Config of `ShortCausalConv1d`: dim; all else has a default. */
export type ShortCausalConv1dConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'short-causal-conv1d';

/**
 * The short causal convolution as a layer of its own: a local mixer beside layers that look far, without any projection.
 *
 * Parameters: D (K + 1); `outputDeviation` is the standard deviation of the taps at the start, which without it are drawn evenly within
 * 1 / sqrt(K). The state is `window` [B, K - 1, D], whatever the length. Layers that have such a convolution inside use
 * `ShortConvolution` of `@seqloom/core`.
 *
 * @see Poli et al. 2023, arXiv 2302.10866
 */
export class ShortCausalConv1d extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  /** [D, K]; the last tap is the current token's */
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(config: ShortCausalConv1dConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, kernelSize, bias, outputDeviation, seed } = this.config;
    this.dim = dim;
    const start = outputDeviation === undefined ? uniform(kernelSize ** -0.5) : normal(outputDeviation);
    this.weight = new Parameter([dim, kernelSize], start, deriveSeed(seed, 'weight'));
    this.bias = bias ? new Parameter([dim], zeros, 0) : null;
  }

  stateShapes(batch: number): StateShapes {
    return { window: [batch, this.config.kernelSize - 1, this.dim] };
  }

  override mixingFlops(): number {
    return 2 * this.config.kernelSize * this.dim;
  }

  mix({ x, state, lengths }: MixInput): MixerResult {
    const { activation, residual } = this.config;
    const result = shortCausalConv1d(
      { input: x, weight: this.weight.value, bias: this.bias?.value },
      { activation, state: { window: state.window! }, ...(lengths ? { lengths } : {}) },
    );
    return {
      output: (residual ? tf.add(x, result.output) : result.output) as tf.Tensor3D,
      state: { window: result.state.window, position: advance(state.position, x, lengths) },
    };
  }
}
