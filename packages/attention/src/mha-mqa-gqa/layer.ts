import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, deriveSeed, divideHeads, fail, Linear, Parameter, parseConfig, positiveInteger, positiveNumber } from '@seqloom/core';
import { RmsNorm, SequenceMixer, softmaxAttention, zeros } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import { alignedPositions } from '../kv-cache/kv-cache.ts';
import { alibiSlopes } from '../positional-encodings/alibi.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import type { Positions } from '../positional-encodings/rotary-angles.ts';
import { cachedAttention } from './decode.ts';
import { rotarySchema } from './rotary-config.ts';

const Schema = v.strictObject({
  dim: positiveInteger,
  /** query heads H */
  heads: positiveInteger,
  /** key and value heads G, a divisor of H; default H */
  kvHeads: v.optional(positiveInteger),
  /** default dim / heads */
  headDim: v.optional(positiveInteger),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self', 'causal-cross', 'noncausal-cross']), 'causal-self'),
  /** width of the context of a cross pattern; default dim */
  contextDim: v.optional(positiveInteger),
  /** rotary positions; null: none; default plain rotary for self patterns without ALiBi, none otherwise */
  rotary: v.optional(v.nullable(rotarySchema)),
  /** ALiBi score biases */
  alibi: v.optional(v.boolean(), false),
  /** root-mean-square norm of each query and key head, before rotation */
  qkNorm: v.optional(v.boolean(), false),
  /** learned vectors on the query, key and value projections */
  bias: v.optional(v.boolean(), false),
  /** learned vector on the output projection */
  outputBias: v.optional(v.boolean(), false),
  /** c in c tanh(score / c) */
  softCap: v.optional(v.nullable(positiveNumber), null),
  /** multiplies scores; default headDim^-0.5 */
  scale: v.optional(positiveNumber),
  /** sigmoid gate of the heads' outputs, computed from the input */
  outputGate: v.optional(v.boolean(), false),
  /** one learned logit per head in the denominator */
  sinkLogits: v.optional(v.boolean(), false),
  normEpsilon: v.optional(positiveNumber, 1e-6),
  seed: v.optional(v.number(), 0),
  /** standard deviation of the output projection at the start */
  outputDeviation: v.optional(v.number()),
});

/** Config of `MultiHeadAttention`. */
export type MultiHeadAttentionConfig = v.InferInput<typeof Schema>;

/**
 * Softmax attention with query, key, value and output projections: `y = W_o (g * concat_h softmax(q_h k_g(h)ᵀ) v_g(h))`.
 *
 * All four patterns; a causal self layer carries its rotated keys and its values as state. A cross layer reads the whole context in
 * every call; the causal one lets the query at position p see context tokens 0 to p.
 *
 * Source: Vaswani et al. 2017; GQA: Ainslie et al. 2023, arXiv 2305.13245.
 */
export class MultiHeadAttention extends SequenceMixer {
  readonly mechanism = 'mha-mqa-gqa';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly gate: Linear | null;
  readonly output: Linear;
  readonly queryNorm: RmsNorm | null;
  readonly keyNorm: RmsNorm | null;
  readonly sinkLogits: Parameter | null;

  constructor(config: MultiHeadAttentionConfig) {
    super();
    this.config = parseConfig(this.mechanism, Schema, config);
    const { dim, heads, kvHeads = heads, pattern, contextDim = dim, bias, outputBias, seed, outputDeviation, normEpsilon } = this.config;
    divideHeads(this.mechanism, heads, kvHeads, 'config.kvHeads');
    this.dim = dim;
    this.pattern = pattern;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = this.config.headDim ?? divideHeads(this.mechanism, dim, heads);
    checkPositions(this.mechanism, this.config, this.headDim);
    const [wide, narrow] = [heads * this.headDim, kvHeads * this.headDim];
    const source = pattern.endsWith('cross') ? contextDim : dim;
    const linear = (name: string, from: number, to: number, withBias: boolean, deviation?: number): Linear =>
      new Linear({ in: from, out: to, bias: withBias, seed: deriveSeed(seed, name), deviation });
    this.query = linear('query', dim, wide, bias);
    this.key = linear('key', source, narrow, bias);
    this.value = linear('value', source, narrow, bias);
    this.gate = this.config.outputGate ? linear('gate', dim, wide, false) : null;
    this.output = linear('output', wide, dim, outputBias, outputDeviation);
    this.queryNorm = this.config.qkNorm ? new RmsNorm({ dim: this.headDim, epsilon: normEpsilon }) : null;
    this.keyNorm = this.config.qkNorm ? new RmsNorm({ dim: this.headDim, epsilon: normEpsilon }) : null;
    this.sinkLogits = this.config.sinkLogits ? new Parameter([heads], zeros, 0) : null;
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const shape = [batch, 'length', this.kvHeads, this.headDim] as const;
    return { key: shape, value: shape };
  }

  override mixingFlops(length: number): number {
    return 4 * this.heads * this.headDim * length;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths } = input;
    const source = input.context ?? x;
    if (source.shape[2] !== this.key.weight.shape[0])
      fail({
        mechanism: this.mechanism,
        argument: 'context',
        wanted: `${this.key.weight.shape[0]} channels wide`,
        given: `${source.shape[2]}`,
        remedy: 'Set config.contextDim to the width of the context.',
      });
    const split = (flat: tf.Tensor, heads: number, norm: RmsNorm | null): tf.Tensor => {
      const [batch, length] = flat.shape as [number, number];
      const cube = tf.reshape(flat, [batch, length, heads, this.headDim]);
      return norm ? norm.forward(cube) : cube;
    };
    const inputs = {
      ...this.rotate(
        input,
        split(this.query.forward(x), this.heads, this.queryNorm),
        split(this.key.forward(source), this.kvHeads, this.keyNorm),
      ),
      value: split(this.value.forward(source), this.kvHeads, null),
      ...(this.sinkLogits ? { sinkLogits: this.sinkLogits.value } : {}),
      ...(this.config.alibi ? { slopes: tf.tensor1d(alibiSlopes(this.heads)) } : {}),
    };
    const { scale, softCap } = this.config;
    if (this.pattern === 'causal-self') {
      const cache = { key: state.key!, value: state.value!, position: state.position };
      const result = cachedAttention(inputs, cache, { valid, lengths, scale, softCap });
      return { output: this.project(result.output, x), state: { ...result.cache } };
    }
    const keyValid = input.context ? input.contextValid : valid;
    const causal = this.pattern === 'causal-cross';
    const cross = input.context !== null && (causal || this.config.alibi);
    const keyPositions = keyValid ? alignedPositions(keyValid) : null;
    const { output } = softmaxAttention(
      {
        ...inputs,
        ...(keyPositions ? { keyPositions } : {}),
        ...(cross ? { queryPositions: tokenPositions(input) } : {}),
      },
      { causal, aligned: !cross, scale, softCap },
    );
    return { output: this.project(output, x), state: { position: advance(state.position, x, lengths) } };
  }

  /** Rotates queries and keys at their own positions. */
  private rotate(input: MixInput, query: tf.Tensor, key: tf.Tensor): { query: tf.Tensor; key: tf.Tensor } {
    const { rotary, alibi } = this.config;
    const options = rotary === undefined ? (alibi || input.context ? null : {}) : rotary;
    if (!options) return { query, key };
    const length = query.shape[1]!;
    const fromStart = this.pattern === 'noncausal-self' || (this.pattern === 'causal-self' && input.state.key!.shape[1] === 0);
    // an empty cache says that the sequence starts here, so the angles can be tabled on the host
    const positions: Positions = fromStart ? { start: 0, length } : tokenPositions(input);
    if (!input.context) return rotaryEmbedding({ query, key, positions }, options);
    return {
      query: rotaryEmbedding({ query, key: query, positions }, options).query,
      key: rotaryEmbedding({ query: key, key, positions: { start: 0, length: key.shape[1]! } }, options).key,
    };
  }

  private project(heads: tf.Tensor, x: tf.Tensor): tf.Tensor3D {
    const [batch, length] = x.shape as [number, number];
    const joined = tf.reshape(heads, [batch, length, this.heads * this.headDim]);
    return this.output.forward(this.gate ? tf.mul(joined, tf.sigmoid(this.gate.forward(x))) : joined) as tf.Tensor3D;
  }
}

/** Positions [B, T] of the tokens of a piece. */
export function tokenPositions({ x, state }: Pick<MixInput, 'x' | 'state'>): tf.Tensor2D {
  return tf.tidy(() => tf.add(tf.reshape(state.position, [-1, 1]), tf.reshape(tf.range(0, x.shape[1]), [1, -1])));
}

/** Refuses rotary settings that do not fit the head width, or that stand beside ALiBi. */
export function checkPositions(
  mechanism: string,
  { rotary, alibi }: { readonly rotary?: v.InferOutput<typeof rotarySchema> | null | undefined; readonly alibi: boolean },
  headDim: number,
): void {
  const dims = rotary === undefined ? (alibi ? 2 : headDim) : rotary ? (rotary.dims ?? headDim) : 2;
  if (dims % 2 !== 0 || dims > headDim)
    fail({
      mechanism,
      argument: 'config.rotary.dims',
      wanted: `an even number of at most the head width ${headDim}`,
      given: String(dims),
      remedy: 'Rotary positions turn pairs of channels: choose an even head width, fewer dims, or rotary: null.',
    });
  if (alibi && rotary)
    fail({
      mechanism,
      argument: 'config.alibi',
      wanted: 'false beside rotary positions',
      given: 'true',
      remedy: 'Choose one of the two: set rotary to null for ALiBi.',
    });
}
