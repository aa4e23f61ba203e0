import {
  advance,
  deriveSeed,
  layerEntries,
  Linear,
  ones,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  RmsNorm,
  SequenceMixer,
  ShortConvolution,
  uniform,
} from '@seqloom/core';
import type { Initialiser, MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { stepBias } from '../step-size.ts';
import { selectiveStateSpace } from './mamba-s6.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** channels of the state space, default 2 dim */
  innerDim: v.optional(positiveInteger),
  /** states per channel */
  stateDim: v.optional(positiveInteger, 16),
  /** taps of the short convolution */
  kernelSize: v.optional(positiveInteger, 4),
  /** rank of the map from a channel to its step size, default dim / 16, rounded up */
  stepRank: v.optional(positiveInteger),
  /** learned vectors on the projections in and out */
  bias: v.optional(v.boolean(), false),
  /** false: no projection out; the layer gives its gated channels, innerDim wide */
  projectOutput: v.optional(v.boolean(), true),
  /** a learned vector on the convolution */
  convolutionBias: v.optional(v.boolean(), true),
  /** RMS norms of the step's low-rank code and of both matrices, as in Jamba */
  selectionNorm: v.optional(v.boolean(), false),
  epsilon: v.optional(positiveNumber, 1e-6),
  /** range of the step sizes at the start */
  stepMin: v.optional(positiveNumber, 1e-3),
  stepMax: v.optional(positiveNumber, 0.1),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
});

/** Config of `Mamba`: dim; all else has a default. */
export type MambaConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'mamba-s6';

// A_n = -(n + 1), the real diagonal of HiPPO, for every channel
const realDiagonal: Initialiser = ([channels, states]) =>
  Float32Array.from({ length: channels! * states! }, (_, place) => Math.log((place % states!) + 1));

/**
 * The Mamba block: a projection to values and gate, short convolution with silu, step sizes and matrices from the values (`selection`), the
 * selective state space, the gate, and the projection out.
 *
 * Parameters with E = innerDim = 2 D, R = stepRank, N = stateDim, K = kernelSize: 3 D E + E (K + 1) + E (R + 2 N) + E (R + 1) + E N + E,
 * about 6 D^2 + 2 D (3 N + D / 8) with the defaults. The state is `memory` [B, E, N] and `window` [B, K - 1, E], whatever the length.
 *
 * @see Gu & Dao 2023, arXiv 2312.00752
 */
export class Mamba extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  /** [D, 2 E], values first */
  readonly input: Linear;
  readonly convolution: ShortConvolution;
  /** [E, R + 2 N]: the step's code, B, C */
  readonly selection: Linear;
  readonly stepNorm: RmsNorm | null;
  readonly inputNorm: RmsNorm | null;
  readonly outputNorm: RmsNorm | null;
  /** [R, E] */
  readonly stepWeight: Parameter;
  readonly stepBias: Parameter;
  /** log of -A, [E, N] */
  readonly transitionLog: Parameter;
  readonly skip: Parameter;
  /** null without projection out */
  readonly output: Linear | null;
  readonly #innerDim: number;
  readonly #stepRank: number;

  constructor(config: MambaConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, stateDim, kernelSize, bias, convolutionBias, selectionNorm, epsilon, stepMin, stepMax, seed, outputDeviation } =
      this.config;
    const innerDim = this.config.innerDim ?? 2 * dim;
    const stepRank = this.config.stepRank ?? Math.ceil(dim / 16);
    this.dim = dim;
    this.#innerDim = innerDim;
    this.#stepRank = stepRank;
    this.input = new Linear({ in: dim, out: 2 * innerDim, bias, seed: deriveSeed(seed, 'input') });
    this.convolution = new ShortConvolution({
      channels: innerDim,
      kernelSize,
      bias: convolutionBias,
      seed: deriveSeed(seed, 'convolution'),
    });
    this.selection = new Linear({ in: innerDim, out: stepRank + 2 * stateDim, seed: deriveSeed(seed, 'selection') });
    const norm = (width: number): RmsNorm | null => (selectionNorm ? new RmsNorm({ dim: width, epsilon }) : null);
    this.stepNorm = norm(stepRank);
    this.inputNorm = norm(stateDim);
    this.outputNorm = norm(stateDim);
    this.stepWeight = new Parameter([stepRank, innerDim], uniform(stepRank ** -0.5), deriveSeed(seed, 'stepWeight'));
    this.stepBias = new Parameter([innerDim], stepBias({ min: stepMin, max: stepMax }), deriveSeed(seed, 'stepBias'));
    this.transitionLog = new Parameter([innerDim, stateDim], realDiagonal, 0, { decay: false });
    this.skip = new Parameter([innerDim], ones, 0);
    this.output = this.config.projectOutput
      ? new Linear({ in: innerDim, out: dim, bias, seed: deriveSeed(seed, 'output'), deviation: outputDeviation })
      : null;
  }

  override get outputDim(): number {
    return this.output ? this.dim : this.#innerDim;
  }

  stateShapes(batch: number): StateShapes {
    return { memory: [batch, this.#innerDim, this.config.stateDim], window: this.convolution.stateShape(batch) };
  }

  override mixingFlops(): number {
    const { stateDim, kernelSize } = this.config;
    return this.#innerDim * (7 * stateDim + 2 * kernelSize + 4);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { stateDim, form } = this.config;
    const [batch, length] = x.shape;
    const [values, gate] = tf.split(this.input.forward(x), 2, 2) as [tf.Tensor3D, tf.Tensor3D];
    const convolved = this.convolution.forward(values, { state: state.window!, lengths });
    const selected = tf.split(this.selection.forward(convolved.output), [this.#stepRank, stateDim, stateDim], 2);
    const norms = [this.stepNorm, this.inputNorm, this.outputNorm];
    const [code, inputMatrix, outputMatrix] = selected.map((part, at) => norms[at]?.forward(part) ?? part) as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ];
    const flat = tf.reshape(code, [batch * length, this.#stepRank]) as tf.Tensor2D;
    const { output, state: next } = selectiveStateSpace(
      {
        input: convolved.output,
        delta: tf.reshape(tf.matMul(flat, this.stepWeight.value as tf.Tensor2D), [batch, length, this.#innerDim]),
        deltaBias: this.stepBias.value,
        transition: tf.neg(tf.exp(this.transitionLog.value)),
        inputMatrix,
        outputMatrix,
        skip: this.skip.value,
        gate,
      },
      { form, state: { memory: state.memory! }, ...(valid ? { mask: valid } : {}) },
    );
    return {
      output: (this.output?.forward(output) ?? output) as tf.Tensor3D,
      state: { memory: next.memory, window: convolved.state, position: advance(state.position, x, lengths) },
    };
  }
}
