import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  checkSetting,
  deriveSeed,
  GatedRmsNorm,
  layerEntries,
  Linear,
  logSigmoid,
  naturalNumber,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
  ShortConvolution,
} from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, State, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { convolveRows, windowShapes } from '../rule/short-windows.ts';
import type { RoleConvolutions } from '../rule/short-windows.ts';
import { hgrn, hgrnComplex } from './hgrn.ts';
import { HgrnLowerBounds } from './lower-bounds.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** channels of the state per channel of the input */
  expandRatio: v.optional(positiveNumber, 1),
  /** the form of the paper: a complex state that turns */
  complex: v.optional(v.boolean(), false),
  /** number of HGRN layers in the model; 1: no lower bound */
  layers: v.optional(positiveInteger, 1),
  /** index of this layer among them, from 0; 0: no lower bound */
  layer: v.optional(naturalNumber, 0),
  /** depthwise causal convolutions, without an activation, on the projections of input and forget gate */
  shortConvolution: v.optional(v.boolean(), false),
  /** taps of the short convolutions */
  kernelSize: v.optional(positiveInteger, 4),
  epsilon: v.optional(positiveNumber, 1e-5),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  form: v.optional(v.picklist(['parallel', 'recurrent']), 'recurrent'),
});

/** Config of `Hgrn`: dim; all else has a default. */
export type HgrnConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'hgrn';

/**
 * HGRN as a layer: `f = gamma + (1 - gamma) sigmoid(x W_f)`, `h_t = f_t h_{t-1} + (1 - f_t) silu(x_t W_i)`,
 * `y = W_o(rms(h) silu(x W_g))`; the complex form has `y = W_o rms(sigmoid(x W_g) [Re h, Im h])`.
 *
 * Parameter budget, E = expandRatio dim: 4 dim E + E (complex: 7 dim E + 3 E), no biases; the lower bounds are layers E per model.
 * The state is `memory` [B, E] (complex: and `memoryImaginary`), with convolutions `inputWindow` and `forgetWindow`, whatever the length;
 * noncausal-self carries its position alone.
 *
 * @see Qin et al. 2023, arXiv 2311.04823; layer as in flash-linear-attention
 */
export class Hgrn extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly input: Linear;
  readonly forget: Linear;
  readonly gate: Linear;
  readonly inputConvolution: ShortConvolution | null;
  readonly forgetConvolution: ShortConvolution | null;
  /** turn per token of the complex form, [E] */
  readonly angle: Parameter | null;
  readonly lowerBounds: HgrnLowerBounds | null;
  readonly norm: GatedRmsNorm;
  readonly output: Linear;
  readonly #width: number;
  readonly #parts: number;

  /**
   * @param config see `HgrnConfig`
   * @param lowerBounds those of the whole model, shared by its layers; left out, a layer above the first learns its own
   * @throws SeqLoomError on a config that does not fit
   */
  constructor(config: HgrnConfig, lowerBounds?: HgrnLowerBounds) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, expandRatio, complex, layers, layer, shortConvolution, kernelSize, epsilon, pattern, seed, outputDeviation } = this.config;
    const width = dim * expandRatio;
    const setting = (name: string, right: boolean, wanted: string, given: unknown, remedy: string): void =>
      checkSetting(MECHANISM, name, right, wanted, given, remedy);
    setting('config.expandRatio', Number.isInteger(width), 'such that dim times it is whole', expandRatio, 'Choose another ratio.');
    setting('config.layer', layer < layers, `below layers = ${layers}`, layer, 'Count the HGRN layers of the model from 0.');
    const causal = pattern === 'causal-self';
    setting(
      'config.shortConvolution',
      causal || !shortConvolution,
      'false for noncausal-self',
      shortConvolution,
      'The convolutions are causal.',
    );
    const bounds = lowerBounds?.weight.shape;
    const fits = !bounds || (bounds[0] === layers && bounds[1] === width);
    setting('lowerBounds', fits, `those of ${layers} layers of ${width} channels`, bounds, 'Make them for the layers of this config.');
    this.dim = dim;
    this.pattern = pattern;
    this.#width = width;
    this.#parts = complex ? 2 : 1;
    const wide = width * this.#parts;
    const project = (name: string, to: number): Linear => new Linear({ in: dim, out: to, seed: deriveSeed(seed, name) });
    const convolve = (name: string, channels: number): ShortConvolution | null =>
      shortConvolution ? new ShortConvolution({ channels, kernelSize, activation: 'none', seed: deriveSeed(seed, name) }) : null;
    this.input = project('input', wide);
    this.forget = project('forget', width);
    this.gate = project('gate', wide);
    this.inputConvolution = convolve('inputConvolution', wide);
    this.forgetConvolution = convolve('forgetConvolution', width);
    this.angle = complex ? new Parameter([width], turningSpeeds, 0) : null;
    this.lowerBounds = layer === 0 ? null : (lowerBounds ?? new HgrnLowerBounds({ layers, width }));
    this.norm = new GatedRmsNorm({
      dim: wide,
      epsilon,
      ...(complex ? { activation: 'sigmoid', normBeforeGate: false } : {}),
    });
    this.output = new Linear({ in: wide, out: dim, seed: deriveSeed(seed, 'output'), deviation: outputDeviation });
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const shape = [batch, this.#width];
    return {
      memory: shape,
      ...(this.angle ? { memoryImaginary: shape } : {}),
      ...windowShapes(this.#convolutions, batch),
    };
  }

  get #convolutions(): RoleConvolutions<'input' | 'forget'> {
    return { input: this.inputConvolution, forget: this.forgetConvolution };
  }

  override mixingFlops(): number {
    const once = (this.angle ? 8 : 2) * this.#width;
    return this.pattern === 'causal-self' ? once : 2 * once;
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { pattern, form } = this.config;
    const causal = pattern === 'causal-self';
    const projected = { input: this.input.forward(x), forget: this.forget.forward(x) };
    const { rows, windows } = convolveRows(projected, this.#convolutions, { state, lengths });
    const { logDecay, write } = this.#forgetGate(rows.forget);
    const inputs = tf.split(tf.mul(rows.input, tf.sigmoid(rows.input)), this.#parts, 2).map((part) => tf.mul(part, write));
    const options = {
      pattern,
      form,
      ...(valid ? { mask: valid } : {}),
      ...(causal ? { state: state as State & { memory: tf.Tensor } } : {}),
    };
    const { hidden, after } = this.#recur(inputs, logDecay, options);
    const output = this.output.forward(this.norm.forward(hidden, this.gate.forward(x)));
    const position = advance(state.position, x, lengths);
    return { output: output as tf.Tensor3D, state: causal ? { ...after, ...windows, position } : { position } };
  }

  #recur(
    [input, inputImaginary]: readonly tf.Tensor[],
    logDecay: tf.Tensor,
    options: { state?: { memory: tf.Tensor } },
  ): { hidden: tf.Tensor; after: Record<string, tf.Tensor> } {
    if (!this.angle || !inputImaginary) {
      const result = hgrn({ input: input!, logDecay }, options);
      return { hidden: result.output, after: result.state };
    }
    const result = hgrnComplex({ input: input!, inputImaginary, logDecay, angle: this.angle.value }, options as object);
    return { hidden: tf.concat([result.output, result.outputImaginary], 2), after: result.state };
  }

  // log f and 1 - f, the latter without a difference of near numbers
  #forgetGate(logits: tf.Tensor): { logDecay: tf.Tensor; write: tf.Tensor } {
    const closed = tf.sigmoid(tf.neg(logits));
    if (!this.lowerBounds) return { logDecay: logSigmoid(logits), write: closed };
    // softmax may round to 0 or 1, where log f has no gradient
    const bound = tf.clipByValue(this.lowerBounds.at(this.config.layer), 1e-30, 1 - 1e-7);
    const rest = tf.sub(1, bound);
    return { logDecay: tf.log(tf.add(bound, tf.mul(rest, tf.sigmoid(logits)))), write: tf.mul(rest, closed) };
  }
}

// 10000^(-c / E): from one radian per token down to hardly any
function turningSpeeds([width]: readonly number[]): Float32Array {
  return Float32Array.from({ length: width! }, (_, c) => 10000 ** (-c / width!));
}
