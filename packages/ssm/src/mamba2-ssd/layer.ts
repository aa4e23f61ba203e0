import {
  advance,
  deriveSeed,
  divideHeads,
  GatedRmsNorm,
  layerEntries,
  Linear,
  naturalNumber,
  ones,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
  ShortConvolution,
} from '@seqloom/core';
import type { Initialiser, MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { stepBias } from '../step-size.ts';
import { stateSpaceDuality } from './mamba2-ssd.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** channels of the state space, default 2 dim */
  innerDim: v.optional(positiveInteger),
  /** channels of a head, a divisor of innerDim */
  headDim: v.optional(positiveInteger, 64),
  /** states per head */
  stateDim: v.optional(positiveInteger, 128),
  /** pairs of input and output matrices, a divisor of the number of heads */
  groups: v.optional(positiveInteger, 1),
  /** taps of the short convolution */
  kernelSize: v.optional(positiveInteger, 4),
  /** channels of a gated linear unit that runs beside the state space */
  mlpDim: v.optional(naturalNumber, 0),
  /** learned vectors on the projections in and out */
  bias: v.optional(v.boolean(), false),
  /** factors on the gate z, the values, both matrices and the steps as projected, before the convolution (Falcon-H1) */
  inputScales: v.optional(v.strictTuple([v.number(), v.number(), v.number(), v.number(), v.number()])),
  /** false: no projection out; the layer gives its channels (after those of the MLP), mlpDim + innerDim wide */
  projectOutput: v.optional(v.boolean(), true),
  /** a learned vector on the convolution */
  convolutionBias: v.optional(v.boolean(), true),
  /** the skip connection has a weight per channel instead of one per head */
  channelSkip: v.optional(v.boolean(), false),
  /** RMS norm of the gated output, in `normGroups` slices; false: the gate alone */
  outputNorm: v.optional(v.boolean(), true),
  /** slices of the channels that the norm treats apart, default `groups`; the transformers library has one */
  normGroups: v.optional(positiveInteger),
  /** whether the norm comes before the gate */
  normBeforeGate: v.optional(v.boolean(), false),
  epsilon: v.optional(positiveNumber, 1e-5),
  /** range of the step sizes at the start */
  stepMin: v.optional(positiveNumber, 1e-3),
  stepMax: v.optional(positiveNumber, 0.1),
  /** no step is ever below it */
  leastStep: v.optional(v.pipe(v.number(), v.minValue(0, 'at least 0')), 0),
  /** no step is ever above it; default: no limit */
  mostStep: v.optional(positiveNumber),
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `Mamba2`: dim; all else has a default. */
export type Mamba2Config = v.InferInput<typeof Schema>;

const MECHANISM = 'mamba2-ssd';

// A = -uniform(1, 16)
const transitionRange: Initialiser = ([heads], random) => Float32Array.from({ length: heads! }, () => Math.log(1 + 15 * random.uniform()));

/**
 * The Mamba-2 block: one projection to gate, values, both matrices and steps, short convolution with silu over values and matrices, the
 * state space, a gated RMS norm, and the projection out.
 *
 * Parameters with E = innerDim = 2 D, H = E / headDim, N = stateDim, G = groups, K = kernelSize: D (2 E + 2 G N + H) + (K + 1) (E + 2 G N) +
 * 3 H + E + E D, about 6 D^2 with the defaults; `mlpDim` adds 3 D each. The state is `memory` [B, H, N, P] and `window`
 * [B, K - 1, E + 2 G N], whatever the length.
 *
 * @see Dao & Gu 2024, arXiv 2405.21060
 */
export class Mamba2 extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  /** to MLP gate, MLP value, gate z, values x, B, C, steps, in this order */
  readonly input: Linear;
  readonly convolution: ShortConvolution;
  readonly stepBias: Parameter;
  /** log of -A, [H] */
  readonly transitionLog: Parameter;
  /** [H], or [H, P] */
  readonly skip: Parameter;
  readonly norm: GatedRmsNorm | null;
  /** null without projection out */
  readonly output: Linear | null;
  readonly #innerDim: number;
  readonly #heads: number;

  constructor(config: Mamba2Config) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, headDim, stateDim, groups, kernelSize, mlpDim, bias, stepMin, stepMax, seed, normBeforeGate, epsilon } = this.config;
    const innerDim = this.config.innerDim ?? 2 * dim;
    const heads = divideHeads(MECHANISM, innerDim, headDim, 'config.headDim');
    divideHeads(MECHANISM, heads, groups, 'config.groups');
    const { normGroups = groups } = this.config;
    divideHeads(MECHANISM, innerDim, normGroups, 'config.normGroups');
    this.dim = dim;
    this.#innerDim = innerDim;
    this.#heads = heads;
    const convolved = innerDim + 2 * groups * stateDim;
    this.input = new Linear({ in: dim, out: 2 * mlpDim + innerDim + convolved + heads, bias, seed: deriveSeed(seed, 'input') });
    this.convolution = new ShortConvolution({
      channels: convolved,
      kernelSize,
      bias: this.config.convolutionBias,
      seed: deriveSeed(seed, 'convolution'),
    });
    this.stepBias = new Parameter([heads], stepBias({ min: stepMin, max: stepMax }), deriveSeed(seed, 'stepBias'));
    this.transitionLog = new Parameter([heads], transitionRange, deriveSeed(seed, 'transitionLog'));
    this.skip = new Parameter(this.config.channelSkip ? [heads, headDim] : [heads], ones, 0, { decay: false });
    this.norm = this.config.outputNorm ? new GatedRmsNorm({ dim: innerDim, epsilon, normBeforeGate, groups: normGroups }) : null;
    const deviation = this.config.outputDeviation;
    this.output = this.config.projectOutput
      ? new Linear({ in: mlpDim + innerDim, out: dim, bias, seed: deriveSeed(seed, 'output'), deviation })
      : null;
  }

  override get outputDim(): number {
    return this.output ? this.dim : this.config.mlpDim + this.#innerDim;
  }

  stateShapes(batch: number): StateShapes {
    const { headDim, stateDim } = this.config;
    return { memory: [batch, this.#heads, stateDim, headDim], window: this.convolution.stateShape(batch) };
  }

  override mixingFlops(): number {
    const { headDim, stateDim, kernelSize } = this.config;
    return 4 * this.#heads * stateDim * headDim + 2 * kernelSize * this.convolution.channels;
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { headDim, stateDim, groups, mlpDim, form, chunkSize, leastStep, mostStep = Infinity } = this.config;
    const [batch, length] = x.shape;
    const [innerDim, heads, matrix] = [this.#innerDim, this.#heads, groups * stateDim];
    const projected = this.input.forward(x);
    const widths = [mlpDim, mlpDim, innerDim, innerDim + 2 * matrix, heads];
    const parts = tf.split(
      this.config.inputScales ? tf.mul(projected, this.#scales(this.config.inputScales)) : projected,
      widths.filter((width) => width > 0),
      2,
    );
    const [z, mixed, delta] = parts.slice(-3) as [tf.Tensor3D, tf.Tensor3D, tf.Tensor3D];
    const convolved = this.convolution.forward(mixed, { state: state.window!, lengths });
    const [values, inputMatrix, outputMatrix] = tf.split(convolved.output, [innerDim, matrix, matrix], 2) as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ];
    const grouped = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [batch, length, groups, stateDim]);
    const byHead = (part: tf.Tensor): tf.Tensor => tf.reshape(part, [batch, length, heads, headDim]);
    const result = stateSpaceDuality(
      {
        input: byHead(values),
        delta,
        deltaBias: this.stepBias.value,
        transition: tf.neg(tf.exp(this.transitionLog.value)),
        inputMatrix: grouped(inputMatrix),
        outputMatrix: grouped(outputMatrix),
        skip: this.skip.value,
        ...(this.norm ? {} : { gate: byHead(z) }),
      },
      { form, chunkSize, deltaLimits: [leastStep, mostStep], state: { memory: state.memory! }, ...(valid ? { mask: valid } : {}) },
    );
    const flat = tf.reshape(result.output, [batch, length, innerDim]);
    const read = this.norm ? this.norm.forward(flat, z) : flat;
    const joined = mlpDim > 0 ? tf.concat([silu(parts[0]!, parts[1]!), read], 2) : read;
    return {
      output: (this.output?.forward(joined) ?? joined) as tf.Tensor3D,
      state: { memory: result.state.memory, window: convolved.state, position: advance(state.position, x, lengths) },
    };
  }

  // one factor per projected channel
  #scales([z, values, inputMatrix, outputMatrix, steps]: NonNullable<Mamba2['config']['inputScales']>): tf.Tensor1D {
    const matrix = this.config.groups * this.config.stateDim;
    const parts: [number, number][] = [
      [1, 2 * this.config.mlpDim],
      [z, this.#innerDim],
      [values, this.#innerDim],
      [inputMatrix, matrix],
      [outputMatrix, matrix],
      [steps, this.#heads],
    ];
    return tf.tensor1d(parts.flatMap(([factor, width]) => Array.from({ length: width }, () => factor)));
  }
}

function silu(gate: tf.Tensor, value: tf.Tensor): tf.Tensor {
  return tf.mul(tf.mul(gate, tf.sigmoid(gate)), value);
}
