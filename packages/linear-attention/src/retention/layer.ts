import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  deriveSeed,
  divideHeads,
  fail,
  GatedRmsNorm,
  layerEntries,
  Linear,
  parseConfig,
  positiveInteger,
  positiveNumber,
  rotary,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { retention } from './retention.ts';
import { rotationAngles, rotationFrequencies } from './rotation.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** heads; head h forgets at the rate 2^(-5 - h) */
  heads: positiveInteger,
  /** channels of a query or key head; default: dim / heads */
  headDim: v.optional(positiveInteger),
  /** channels of a value head; default: 2 dim / heads */
  valueDim: v.optional(positiveInteger),
  /** rotation of queries and keys: neighbouring channels (torchscale), halves of the head (fla), or none */
  rotary: v.optional(v.picklist(['torchscale', 'fla', 'none']), 'torchscale'),
  rotaryBase: v.optional(positiveNumber, 10000),
  epsilon: v.optional(positiveNumber, 1e-5),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
});

/** Config of `Retention`: dim and heads; all else has a default. */
export type RetentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'retention';

/**
 * Multi-scale retention, the layer of RetNet: projections without biases to query, key and value, the rotation of queries and keys, the
 * op with a decay of its own per head, an RMS norm per head, a swish gate and the output projection, `W_o (swish(W_g x) * norm(o))`.
 *
 * Parameters with the defaults: 8 dim^2 (query and key dim^2 each; value, gate and output 2 dim^2 each) plus the norm's 2 dim / heads. The
 * state of the causal pattern is `memory` [B, heads, headDim, valueDim], whatever the length, and the position that the rotation goes on from.
 *
 * @see Sun et al. 2023, arXiv 2307.08621
 */
export class Retention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: 'causal-self' | 'noncausal-self';
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly gate: Linear;
  readonly norm: GatedRmsNorm;
  readonly output: Linear;
  readonly #headDim: number;
  readonly #valueDim: number;
  readonly #frequencies: Float64Array | null;

  constructor(config: RetentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, rotary: style, rotaryBase, pattern, form, epsilon, seed, outputDeviation } = this.config;
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    const valueDim = this.config.valueDim ?? 2 * divideHeads(MECHANISM, dim, heads);
    const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
      fail({ mechanism: MECHANISM, argument, wanted, given, remedy });
    if (style !== 'none' && headDim % 2 !== 0) {
      refuse('config.headDim', 'even, for the rotation', String(headDim), 'Choose an even width, or rotary none.');
    }
    if (pattern === 'noncausal-self' && form === 'recurrent') {
      refuse('config.form', 'parallel or chunk for noncausal-self', form, 'Leave it out for chunk.');
    }
    this.dim = dim;
    this.pattern = pattern;
    this.#headDim = headDim;
    this.#valueDim = valueDim;
    this.#frequencies = style === 'none' ? null : rotationFrequencies(headDim, style, rotaryBase);
    // Xavier's variance, scaled down as the original does it
    const deviation = (out: number, gain: number): number => gain * Math.sqrt(2 / (dim + out));
    const project = (name: string, out: number): Linear =>
      new Linear({ in: dim, out, seed: deriveSeed(seed, name), deviation: deviation(out, 2 ** -2.5) });
    this.query = project('query', heads * headDim);
    this.key = project('key', heads * headDim);
    this.value = project('value', heads * valueDim);
    this.gate = project('gate', heads * valueDim);
    this.norm = new GatedRmsNorm({ dim: valueDim, epsilon });
    const width = heads * valueDim;
    this.output = new Linear({
      in: width,
      out: dim,
      seed: deriveSeed(seed, 'output'),
      deviation: outputDeviation ?? deviation(width, 0.5),
    });
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    return { memory: [batch, this.config.heads, this.#headDim, this.#valueDim] };
  }

  override mixingFlops(): number {
    const { heads } = this.config;
    return heads * (4 * this.#headDim * this.#valueDim + (this.#frequencies ? 6 * this.#headDim : 0));
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const split = (map: Linear, width: number): tf.Tensor => tf.reshape(map.forward(x), [batch, length, heads, width]);
    const angles = this.#frequencies && rotationAngles(state.position, length, this.#frequencies);
    const rotate = (rows: tf.Tensor): tf.Tensor =>
      angles ? rotary({ input: rows, ...angles }, { interleaved: this.config.rotary === 'torchscale' }) : rows;
    const causal = this.pattern === 'causal-self';
    const result = retention(
      {
        query: rotate(split(this.query, this.#headDim)),
        key: rotate(split(this.key, this.#headDim)),
        value: split(this.value, this.#valueDim),
      },
      {
        pattern: this.pattern,
        form,
        chunkSize,
        ...(causal ? { state: { memory: state.memory! } } : {}),
        ...(valid ? { mask: valid } : {}),
      },
    );
    const gated = this.norm.forward(result.output, split(this.gate, this.#valueDim));
    const output = this.output.forward(tf.reshape(gated, [batch, length, heads * this.#valueDim])) as tf.Tensor3D;
    const position = advance(state.position, x, lengths);
    return { output, state: causal ? { ...result.state, position } : { position } };
  }
}
