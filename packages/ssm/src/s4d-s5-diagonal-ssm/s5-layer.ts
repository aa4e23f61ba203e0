import { advance, deriveSeed, divideHeads, Linear, normal, Parameter, parseConfig, positiveInteger, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { logStep } from '../step-size.ts';
import { diagonalEntries, gelu, halfOf, readBackward } from './diagonal-layer.ts';
import { startInput, startOutput, startPoles } from './poles.ts';
import type { HostComplex } from './poles.ts';
import { s5 } from './s5.ts';

const Schema = v.strictObject({
  ...diagonalEntries,
  /** blocks of HiPPO poles that the states start as; stateDim / blocks is even */
  blocks: v.optional(positiveInteger, 1),
});

/** Config of `S5`: dim; all else has a default. */
export type S5Config = v.InferInput<typeof Schema>;

const MECHANISM = 's4d-s5-diagonal-ssm';

// poles stay this far left of the imaginary axis
const CLOSEST_POLE = -1e-4;

/**
 * The S5 layer: one state space for all channels, gelu, and a gate of it, `g * sigmoid(W g)`. The noncausal pattern adds a second output matrix
 * that reads the sequence from its end.
 *
 * Parameters with P = stateDim / 2 stored poles: 3 P + 4 P D + D + D^2 + D, and 2 P D more for the noncausal pattern. The causal state is
 * `hidden` and `hiddenImaginary` [B, P], whatever the length.
 *
 * @see Smith et al. 2022, arXiv 2208.04933
 */
export class S5 extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly logStep: Parameter;
  readonly poleReal: Parameter;
  readonly poleImaginary: Parameter;
  /** B, [P, D] */
  readonly inputReal: Parameter;
  readonly inputImaginary: Parameter;
  /** C, [D, P]; `outputDeviation` is its deviation before the change to the eigenvectors' basis */
  readonly outputReal: Parameter;
  readonly outputImaginary: Parameter;
  readonly backwardReal: Parameter | null;
  readonly backwardImaginary: Parameter | null;
  readonly skip: Parameter;
  readonly gate: Linear;

  constructor(config: S5Config) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, stateDim, blocks, stepMin, stepMax, poleLearningRate, pattern, seed, outputDeviation } = this.config;
    const count = halfOf(divideHeads(MECHANISM, stateDim, blocks, 'config.blocks'), 'config.stateDim');
    const poles = stateDim / 2;
    const sizes = { channels: dim, poles, blocks };
    this.dim = dim;
    this.pattern = pattern;
    const slow = { decay: false, learningRateScale: poleLearningRate };
    const given = (shape: number[], data: Float32Array, options = {}): Parameter => new Parameter(shape, () => data, 0, options);
    this.logStep = new Parameter([poles], logStep({ min: stepMin, max: stepMax }), deriveSeed(seed, 'logStep'), slow);
    const start = startPoles('legs', count);
    const tiled = (part: Float64Array): Float32Array => Float32Array.from({ length: poles }, (_, place) => part[place % count]!);
    this.poleReal = given([poles], tiled(start.real), slow);
    this.poleImaginary = given([poles], tiled(start.imaginary), slow);
    const input = startInput(sizes, deriveSeed(seed, 'input'));
    this.inputReal = given([poles, dim], input.real, slow);
    this.inputImaginary = given([poles, dim], input.imaginary, slow);
    const read = (name: string): HostComplex => startOutput(sizes, deriveSeed(seed, name), outputDeviation);
    const output = read('output');
    this.outputReal = given([dim, poles], output.real);
    this.outputImaginary = given([dim, poles], output.imaginary);
    const backward = pattern === 'noncausal-self' ? read('backward') : null;
    this.backwardReal = backward && given([dim, poles], backward.real);
    this.backwardImaginary = backward && given([dim, poles], backward.imaginary);
    this.skip = new Parameter([dim], normal(1), deriveSeed(seed, 'skip'));
    this.gate = new Linear({ in: dim, out: dim, bias: true, seed: deriveSeed(seed, 'gate') });
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern === 'noncausal-self') return {};
    const shape = [batch, this.config.stateDim / 2];
    return { hidden: shape, hiddenImaginary: shape };
  }

  override mixingFlops(): number {
    return 8 * this.config.stateDim * (this.pattern === 'noncausal-self' ? 2 : 1);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { discretisation, form } = this.config;
    const causal = this.pattern === 'causal-self';
    const system = {
      poleReal: tf.minimum(this.poleReal.value, CLOSEST_POLE),
      poleImaginary: this.poleImaginary.value,
      logStep: this.logStep.value,
      inputReal: this.inputReal.value,
      inputImaginary: this.inputImaginary.value,
    };
    const forward = s5(
      { ...system, input: x, outputReal: this.outputReal.value, outputImaginary: this.outputImaginary.value, skip: this.skip.value },
      {
        discretisation,
        form,
        ...(causal ? { state: { hidden: state.hidden!, hiddenImaginary: state.hiddenImaginary! } } : {}),
        ...(valid ? { mask: valid } : {}),
      },
    );
    let read = forward.output;
    if (!causal) {
      const weights = { outputReal: this.backwardReal!.value, outputImaginary: this.backwardImaginary!.value };
      read = tf.add(
        read,
        readBackward(x, valid, (input) => s5({ ...system, ...weights, input }, { discretisation, form }).output),
      );
    }
    const active = gelu(read);
    const position = advance(state.position, x, lengths);
    return {
      output: tf.mul(active, tf.sigmoid(this.gate.forward(active))) as tf.Tensor3D,
      state: causal ? { ...forward.state, position } : { position },
    };
  }
}
