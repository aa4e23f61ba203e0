import { advance, deriveSeed, Linear, normal, Parameter, parseConfig, positiveInteger, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { logStep } from '../step-size.ts';
import { diagonalEntries, gelu, halfOf, readBackward } from './diagonal-layer.ts';
import { startPoles } from './poles.ts';
import { s4d } from './s4d.ts';

const Schema = v.strictObject({
  ...diagonalEntries,
  /** where the poles start */
  poles: v.optional(v.picklist(['legs', 'lin', 'inv', 'quad', 'real']), 'legs'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `S4d`: dim; all else has a default. */
export type S4dConfig = v.InferInput<typeof Schema>;

const MECHANISM = 's4d-s5-diagonal-ssm';

/**
 * The S4D layer: a state space per channel, gelu, a map to twice the width, and its gated linear unit. The noncausal pattern adds a second
 * output matrix that reads the sequence from its end.
 *
 * Parameters with N = stateDim: D (2 N + 2) + 2 D^2 + 2 D, and D N more for the noncausal pattern. The causal state is `hidden` and
 * `hiddenImaginary` [B, D, N / 2], whatever the length.
 *
 * @see Gu et al. 2022, arXiv 2206.11893
 */
export class S4d extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly logStep: Parameter;
  /** log of minus the real part, [D, N / 2] */
  readonly poleRealLog: Parameter;
  readonly poleImaginary: Parameter;
  readonly outputReal: Parameter;
  readonly outputImaginary: Parameter;
  readonly backwardReal: Parameter | null;
  readonly backwardImaginary: Parameter | null;
  readonly skip: Parameter;
  /** [D, 2 D]: value, gate */
  readonly output: Linear;

  constructor(config: S4dConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, stateDim, poles, stepMin, stepMax, poleLearningRate, pattern, seed, outputDeviation: deviation } = this.config;
    const count = halfOf(stateDim, 'config.stateDim');
    this.dim = dim;
    this.pattern = pattern;
    const slow = { decay: false, learningRateScale: poleLearningRate };
    this.logStep = new Parameter([dim], logStep({ min: stepMin, max: stepMax }), deriveSeed(seed, 'logStep'), slow);
    const start = startPoles(poles, count);
    const each = (value: (n: number) => number) => () => Float32Array.from({ length: dim * count }, (_, place) => value(place % count));
    this.poleRealLog = new Parameter(
      [dim, count],
      each((n) => Math.log(-start.real[n]!)),
      0,
      slow,
    );
    this.poleImaginary = new Parameter(
      [dim, count],
      each((n) => start.imaginary[n]!),
      0,
      slow,
    );
    const weight = (name: string): Parameter => new Parameter([dim, count], normal(Math.SQRT1_2), deriveSeed(seed, name));
    this.outputReal = weight('outputReal');
    this.outputImaginary = weight('outputImaginary');
    const noncausal = pattern === 'noncausal-self';
    this.backwardReal = noncausal ? weight('backwardReal') : null;
    this.backwardImaginary = noncausal ? weight('backwardImaginary') : null;
    this.skip = new Parameter([dim], normal(1), deriveSeed(seed, 'skip'));
    this.output = new Linear({ in: dim, out: 2 * dim, bias: true, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern === 'noncausal-self') return {};
    const shape = [batch, this.dim, this.config.stateDim / 2];
    return { hidden: shape, hiddenImaginary: shape };
  }

  override mixingFlops(): number {
    const { stateDim, chunkSize } = this.config;
    return this.dim * (2 * chunkSize + 6 * stateDim) * (this.pattern === 'noncausal-self' ? 2 : 1);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { discretisation, form, chunkSize } = this.config;
    const causal = this.pattern === 'causal-self';
    const system = {
      poleReal: tf.neg(tf.exp(this.poleRealLog.value)),
      poleImaginary: this.poleImaginary.value,
      logStep: this.logStep.value,
    };
    const settings = { discretisation, form, chunkSize };
    const forward = s4d(
      { ...system, input: x, outputReal: this.outputReal.value, outputImaginary: this.outputImaginary.value, skip: this.skip.value },
      {
        ...settings,
        ...(causal ? { state: { hidden: state.hidden!, hiddenImaginary: state.hiddenImaginary! } } : {}),
        ...(lengths ? { lengths } : {}),
      },
    );
    let read = forward.output;
    if (!causal) {
      const weights = { outputReal: this.backwardReal!.value, outputImaginary: this.backwardImaginary!.value };
      read = tf.add(
        read,
        readBackward(x, valid, (input) => s4d({ ...system, ...weights, input }, settings).output),
      );
    }
    const [value, gate] = tf.split(this.output.forward(gelu(read)), 2, 2) as [tf.Tensor3D, tf.Tensor3D];
    const position = advance(state.position, x, lengths);
    return {
      output: tf.mul(value, tf.sigmoid(gate)),
      state: causal ? { ...forward.state, position } : { position },
    };
  }
}
