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
import type { MixInput, SharedKeyValue, StateShapes } from '@seqloom/core';
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
  /** width Dv of value heads, hence of the gate and of what the output projection reads; default headDim */
  valueHeadDim: v.optional(positiveInteger),
  /** rotary positions; null: none; default plain rotary for self patterns without ALiBi, none otherwise */
  rotary: v.optional(v.nullable(rotarySchema)),
  /** ALiBi score biases */
  alibi: v.optional(v.boolean(), false),
  /** root-mean-square norm of each query and key head, before rotation; 'zero-centered': weights w multiply as 1 + w */
  qkNorm: v.optional(v.union([v.boolean(), v.literal('zero-centered')]), false),
  /** learned vectors on the query, key and value projections */
  bias: v.optional(v.boolean(), false),
  /** learned vector on the output projection */
  outputBias: v.optional(v.boolean(), false),
  /** c in c tanh(score / c) */
  softCap: v.optional(v.nullable(positiveNumber), null),
  /** multiplies scores; default headDim^-0.5 */
  scale: v.optional(positiveNumber),
  /** sigmoid gate of every channel of the heads' outputs, computed from the input */
  outputGate: v.optional(v.boolean(), false),
  /** one learned logit per head in the denominator */
  sinkLogits: v.optional(v.boolean(), false),
  /** false: no output projection; the layer gives its heads side by side, heads * valueHeadDim wide */
  projectOutput: v.optional(v.boolean(), true),
  /** 'given': keys and values come from another layer of the same piece, so that this one has neither their projections nor a cache */
  keyValue: v.optional(v.picklist(['own', 'given']), 'own'),
  normEpsilon: v.optional(positiveNumber, 1e-6),
  seed: v.optional(v.number(), 0),
  /** standard deviation of the output projection at the start */
  outputDeviation: v.optional(v.number()),
};

const common = v.strictObject(attentionEntries);

/** The common keys of a parsed config. */
export type AttentionConfig = Readonly<v.InferOutput<typeof common>>;

/** Query heads of a piece, before positions, and what attention needs beside keys and values. */
export interface AttentionQueries {
  /** [B, T, H, D] */
  readonly query: tf.Tensor;
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
  readonly valueHeadDim: number;
  readonly query: Linear;
  /** null when keys and values are given */
  readonly key: Linear | null;
  /** null when keys and values are given */
  readonly value: Linear | null;
  readonly gate: Linear | null;
  /** null without output projection */
  readonly output: Linear | null;
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
    const { dim, heads, kvHeads = heads, bias, seed, normEpsilon: epsilon } = config;
    this.mechanism = mechanism;
    divideHeads(mechanism, heads, kvHeads, 'config.kvHeads');
    this.dim = dim;
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headDim = config.headDim ?? divideHeads(mechanism, dim, heads);
    this.valueHeadDim = config.valueHeadDim ?? this.headDim;
    this.alibi = config.alibi;
    checkPositions(mechanism, config, this.headDim);
    if (config.outputBias && !config.projectOutput)
      fail({
        mechanism,
        argument: 'config.outputBias',
        wanted: 'false without output projection',
        given: 'true',
        remedy: 'The bias belongs to the projection: set projectOutput to true, or leave the bias out.',
      });
    const owns = config.keyValue === 'own';
    const wide = heads * this.valueHeadDim;
    const linear = (name: string, from: number, to: number, withBias: boolean, deviation?: number): Linear =>
      new Linear({ in: from, out: to, bias: withBias, seed: deriveSeed(seed, name), deviation });
    const norm = (): RmsNorm => new RmsNorm({ dim: this.headDim, epsilon, zeroCentered: config.qkNorm === 'zero-centered' });
    this.query = linear('query', dim, heads * this.headDim, bias);
    this.key = owns ? linear('key', sourceDim, kvHeads * this.headDim, bias) : null;
    this.value = owns ? linear('value', sourceDim, kvHeads * this.valueHeadDim, bias) : null;
    this.gate = config.outputGate ? linear('gate', dim, wide, false) : null;
    this.output = config.projectOutput ? linear('output', wide, dim, config.outputBias, config.outputDeviation) : null;
    this.queryNorm = config.qkNorm ? norm() : null;
    this.keyNorm = config.qkNorm && owns ? norm() : null;
    this.sinkLogits = config.sinkLogits ? new Parameter([heads], zeros, 0) : null;
  }

  override get outputDim(): number {
    return this.output ? this.dim : this.heads * this.valueHeadDim;
  }

  /** Shapes of the cache of a layer that owns its keys and values. */
  protected abstract cacheShapes(batch: number): StateShapes;

  stateShapes(batch: number): StateShapes {
    return this.key ? this.cacheShapes(batch) : {};
  }

  /** Projects a piece to query heads. */
  protected projectQueries(x: tf.Tensor): AttentionQueries {
    return {
      query: this.split(this.query.forward(x), this.heads, this.queryNorm),
      ...(this.sinkLogits ? { sinkLogits: this.sinkLogits.value } : {}),
      ...(this.alibi ? { slopes: tf.tensor1d(alibiSlopes(this.heads)) } : {}),
    };
  }

  /** Keys before positions, values and the state before the piece: projected, or those of the layer that shares its own. */
  protected keysAndValues(input: MixInput): SharedKeyValue {
    const { key, value } = this;
    if (!key || !value) return this.given(input);
    const source = input.context ?? input.x;
    if (source.shape[2] !== key.weight.shape[0])
      fail({
        mechanism: this.mechanism,
        argument: 'context',
        wanted: `${key.weight.shape[0]} channels wide`,
        given: `${source.shape[2]}`,
        remedy: 'Set config.contextDim to the width of the context.',
      });
    return {
      key: this.split(key.forward(source), this.kvHeads, this.keyNorm),
      value: this.split(value.forward(source), this.kvHeads, null),
      state: input.state,
    };
  }

  /** Joins, gates and projects the heads' outputs [B, T, H, Dv]. */
  protected join(outputs: tf.Tensor, x: tf.Tensor): tf.Tensor3D {
    const [batch, length] = x.shape as [number, number];
    const joined = tf.reshape(outputs, [batch, length, this.heads * this.valueHeadDim]) as tf.Tensor3D;
    const gated = this.gate ? tf.mul<tf.Tensor3D>(joined, tf.sigmoid(this.gate.forward(x))) : joined;
    return this.output ? (this.output.forward(gated) as tf.Tensor3D) : gated;
  }

  private split(flat: tf.Tensor, heads: number, norm: RmsNorm | null): tf.Tensor {
    const [batch, length, width] = flat.shape as [number, number, number];
    const cube = tf.reshape(flat, [batch, length, heads, width / heads]);
    return norm ? norm.forward(cube) : cube;
  }

  /** The producer's keys and values, refused unless they fit this layer's heads and window. */
  private given({ x, keyValue }: MixInput): SharedKeyValue {
    const { mechanism, kvHeads } = this;
    const remedy = 'Share between layers of the same key heads, head widths, window and sinks, the producer before its consumers.';
    if (!keyValue)
      fail({
        mechanism,
        argument: 'keyValue',
        wanted: "keys and values of another layer, since config.keyValue is 'given'",
        given: 'none',
        remedy: "Name this layer's producer in the model's sharing groups, or set config.keyValue to 'own'.",
      });
    const [batch, length] = x.shape;
    const refuse = (argument: string, wanted: string, given: string): never => fail({ mechanism, argument, wanted, given, remedy });
    const shapes = { key: [batch, length, kvHeads, this.headDim], value: [batch, length, kvHeads, this.valueHeadDim] };
    for (const name of ['key', 'value'] as const)
      if (!tf.util.arraysEqual(keyValue[name].shape, shapes[name]))
        refuse(`keyValue.${name}`, `[${shapes[name].join(', ')}]`, `[${keyValue[name].shape.join(', ')}]`);
    const expected: StateShapes = { ...this.cacheShapes(batch), position: [batch] };
    const names = (record: object): string => Object.keys(record).toSorted().join(', ');
    if (names(expected) !== names(keyValue.state)) refuse('keyValue.state', `a record of ${names(expected)}`, names(keyValue.state));
    for (const [name, shape] of Object.entries(expected)) {
      const have = keyValue.state[name]!.shape;
      if (have.length !== shape.length || shape.some((axis, i) => axis !== 'length' && axis !== have[i]))
        refuse(`keyValue.state.${name}`, `[${shape.join(', ')}]`, `[${have.join(', ')}]`);
    }
    return keyValue;
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
