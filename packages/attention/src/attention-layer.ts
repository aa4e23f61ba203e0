import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import {
  deriveSeed,
  divideHeads,
  fail,
  Linear,
  Parameter,
  positiveInteger,
  positiveNumber,
  RmsNorm,
  SequenceMixer,
  zeros,
} from '@seqloom/core';
import type { MixInput } from '@seqloom/core';
import { alibiSlopes } from './positional-encodings/alibi.ts';
import { rotarySchema } from './rotary-config.ts';

/** Config keys that every attention layer has. */
export const attentionEntries = {
  dim: positiveInteger,
  /** query heads H */
  heads: positiveInteger,
  /** key and value heads G, a divisor of H; default H */
  kvHeads: v.optional(positiveInteger),
  /** default dim / heads */
  headDim: v.optional(positiveInteger),
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
};

const common = v.strictObject(attentionEntries);

/** The common keys of a parsed config. */
export type AttentionConfig = Readonly<v.InferOutput<typeof common>>;

/** Query, key and value heads of a piece, before positions, and what attention needs beside them. */
export interface AttentionHeads {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
  /** [B, S, G, D] */
  readonly key: tf.Tensor;
  /** [B, S, G, D] */
  readonly value: tf.Tensor;
  /** [H] */
  readonly sinkLogits?: tf.Tensor;
  /** [H] */
  readonly slopes?: tf.Tensor;
}

/** The projections, norms and gates around attention, which all attention layers share. */
export abstract class AttentionLayer extends SequenceMixer {
  readonly mechanism: string;
  readonly dim: number;
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
  private readonly alibi: boolean;

  /**
   * @param mechanism id for errors
   * @param config parsed
   * @param sourceDim width of what keys and values are made of
   */
  constructor(mechanism: string, config: AttentionConfig, sourceDim: number) {
    super();
    const { dim, heads, kvHeads = heads, bias, outputBias, seed, outputDeviation, normEpsilon } = config;
    this.mechanism = mechanism;
    divideHeads(mechanism, heads, kvHeads, 'config.kvHeads');
    this.dim = dim;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = config.headDim ?? divideHeads(mechanism, dim, heads);
    this.alibi = config.alibi;
    checkPositions(mechanism, config, this.headDim);
    const [wide, narrow] = [heads * this.headDim, kvHeads * this.headDim];
    const linear = (name: string, from: number, to: number, withBias: boolean, deviation?: number): Linear =>
      new Linear({ in: from, out: to, bias: withBias, seed: deriveSeed(seed, name), deviation });
    this.query = linear('query', dim, wide, bias);
    this.key = linear('key', sourceDim, narrow, bias);
    this.value = linear('value', sourceDim, narrow, bias);
    this.gate = config.outputGate ? linear('gate', dim, wide, false) : null;
    this.output = linear('output', wide, dim, outputBias, outputDeviation);
    this.queryNorm = config.qkNorm ? new RmsNorm({ dim: this.headDim, epsilon: normEpsilon }) : null;
    this.keyNorm = config.qkNorm ? new RmsNorm({ dim: this.headDim, epsilon: normEpsilon }) : null;
    this.sinkLogits = config.sinkLogits ? new Parameter([heads], zeros, 0) : null;
  }

  /** Projects a piece to heads; `source` is what keys and values are made of. */
  protected project({ x, context }: MixInput): AttentionHeads {
    const source = context ?? x;
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
    return {
      query: split(this.query.forward(x), this.heads, this.queryNorm),
      key: split(this.key.forward(source), this.kvHeads, this.keyNorm),
      value: split(this.value.forward(source), this.kvHeads, null),
      ...(this.sinkLogits ? { sinkLogits: this.sinkLogits.value } : {}),
      ...(this.alibi ? { slopes: tf.tensor1d(alibiSlopes(this.heads)) } : {}),
    };
  }

  /** Joins, gates and projects the heads' outputs [B, T, H, D]. */
  protected join(outputs: tf.Tensor, x: tf.Tensor): tf.Tensor3D {
    const [batch, length] = x.shape as [number, number];
    const joined = tf.reshape(outputs, [batch, length, this.heads * this.headDim]);
    return this.output.forward(this.gate ? tf.mul(joined, tf.sigmoid(this.gate.forward(x))) : joined) as tf.Tensor3D;
  }
}

/** Positions [B, T] of the tokens of a piece. */
export function tokenPositions({ x, state }: Pick<MixInput, 'x' | 'state'>): tf.Tensor2D {
  return tf.tidy(() => tf.add(tf.reshape(state.position, [-1, 1]), tf.reshape(tf.range(0, x.shape[1]), [1, -1])));
}

function checkPositions(mechanism: string, { rotary, alibi }: AttentionConfig, headDim: number): void {
  const rotated = rotary ?? (rotary === undefined && !alibi ? { dims: headDim } : null);
  const dims = rotated ? (rotated.dims ?? headDim) : 0;
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
