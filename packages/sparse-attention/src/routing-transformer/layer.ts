import * as tf from '@tensorflow/tfjs-core';
import { rollingCacheShapes } from '@seqloom/attention';
import {
  advance,
  deriveSeed,
  divideHeads,
  fail,
  layerEntries,
  Linear,
  naturalNumber,
  normal,
  Parameter,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
  tidy,
} from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, State, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { commitmentLoss, fittedCentroids, movedCentroids } from './clusters.ts';
import { memberCacheShapes, recentRouting } from './decode.ts';
import { localAttention } from './local-heads.ts';
import type { Heads } from './local-heads.ts';
import { routingAttention } from './routing-transformer.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** heads in all */
  heads: positiveInteger,
  /** heads that read a local window, the others route; default half of them */
  localHeads: v.optional(naturalNumber),
  /** default dim / heads */
  headDim: v.optional(positiveInteger),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  /** C, centroids per head; near the root of the length */
  clusters: v.optional(positiveInteger, 16),
  /** w, tokens per cluster (noncausal) or members that a query reads (causal) */
  window: v.optional(positiveInteger, 64),
  /** tokens that local heads see, the query included; on either side without causality */
  localWindow: v.optional(positiveInteger, 256),
  /** route by queries alone, keys are queries of length 1; default as the reference: with causality */
  sharedQueryKey: v.optional(v.boolean()),
  /** M, learned keys and values per cluster; default 1 when causal without sharing, where it is the least, else 0 */
  memories: v.optional(naturalNumber),
  /** rotary positions of the local heads; null: none */
  rotary: v.optional(v.nullable(v.strictObject({ base: v.optional(positiveNumber, 10000) })), {}),
  /** λ of the centroids; 1 never moves them */
  centroidDecay: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0.999),
  /** β of the commitment loss, which a training call adds to its sink; 0: none */
  commitment: v.optional(v.pipe(v.number(), v.minValue(0)), 1e-4),
});

/** Config of `RoutingAttention`: dim and heads; all else has a default. */
export type RoutingAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'routing-transformer';

/**
 * Content-based sparse attention with local heads beside it: routed heads meet tokens of their own cluster, however far away.
 *
 * Causal layers route each token to its nearest centroid and read the last w members of the cluster (`recentRouting`); noncausal ones are
 * balanced, as published (`routingAttention`). `centroids` [H, C, D] is a parameter without gradient, so checkpoints keep it: it moves
 * with `training: true`, and `fitCentroids` starts it from data.
 *
 * Parameters: dim heads headDim each for queries, values and output, dim headDim for each key head (local ones, and routed ones that do
 * not share), C headDim per routed head for centroids, and 2 C M headDim for memories.
 *
 * @see Roy et al. 2020, arXiv 2003.05997
 */
export class RoutingAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly query: Linear;
  /** absent when all heads route and share */
  readonly key: Linear | null;
  readonly value: Linear;
  readonly output: Linear;
  /** [H, C, D] */
  readonly centroids: Parameter;
  /** [H, C, M, D] */
  readonly memoryKey: Parameter | null;
  readonly memoryValue: Parameter | null;
  readonly #localHeads: number;
  readonly #routedHeads: number;
  readonly #headDim: number;
  readonly #shared: boolean;

  constructor(config: RoutingAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, pattern, clusters, seed, rotary, outputDeviation: deviation } = this.config;
    const { localHeads = heads >> 1, sharedQueryKey = pattern === 'causal-self' } = this.config;
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    const least = pattern === 'causal-self' && !sharedQueryKey ? 1 : 0;
    const { memories = least } = this.config;
    const refuse = (argument: string, wanted: string, given: unknown, remedy: string): never =>
      fail({ mechanism: MECHANISM, argument: `config.${argument}`, wanted, given: String(given), remedy });
    if (localHeads >= heads)
      refuse('localHeads', `below the ${heads} heads`, localHeads, 'For local heads alone use sliding-window attention.');
    if (memories < least)
      refuse('memories', 'at least 1 when causal without sharing', memories, 'A query could find no key: leave it out.');
    if (rotary && localHeads > 0 && headDim % 2 !== 0)
      refuse('rotary', 'null for odd head widths', `a head width of ${headDim}`, 'Rotary positions turn pairs of channels.');
    this.dim = dim;
    this.pattern = pattern;
    this.#localHeads = localHeads;
    this.#routedHeads = heads - localHeads;
    this.#headDim = headDim;
    this.#shared = sharedQueryKey;
    const keyHeads = localHeads + (sharedQueryKey ? 0 : this.#routedHeads);
    const linear = (name: string, count: number): Linear => new Linear({ in: dim, out: count * headDim, seed: deriveSeed(seed, name) });
    this.query = linear('query', heads);
    this.key = keyHeads > 0 ? linear('key', keyHeads) : null;
    this.value = linear('value', heads);
    this.output = new Linear({ in: heads * headDim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
    const frozen = { trainable: false, decay: false };
    // directions of about length 1
    this.centroids = new Parameter([this.#routedHeads, clusters, headDim], normal(headDim ** -0.5), deriveSeed(seed, 'centroids'), frozen);
    const memory = (name: string): Parameter | null =>
      memories > 0 ? new Parameter([this.#routedHeads, clusters, memories, headDim], normal(1), deriveSeed(seed, name)) : null;
    this.memoryKey = memory('memoryKey');
    this.memoryValue = memory('memoryValue');
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const { clusters, window, localWindow } = this.config;
    const headDim = this.#headDim;
    const local = this.#localHeads > 0 ? rollingCacheShapes(batch, { window: localWindow, heads: this.#localHeads, headDim }) : {};
    return { ...local, ...memberCacheShapes(batch, { clusters, window, heads: this.#routedHeads, headDim }) };
  }

  override mixingFlops(length: number): number {
    const { clusters, window, localWindow } = this.config;
    const near = 4 * this.#localHeads * Math.min(length, localWindow);
    return this.#headDim * (near + this.#routedHeads * (2 * clusters + 4 * Math.min(length, window)));
  }

  /**
   * Fits the centroids to the tokens of a batch by k-means, as the reference does on its first one.
   *
   * @param x float32 [B, T, dim], as the layer receives it
   * @param settings iterations (default 10), and the seed of the tokens to begin with (default 0)
   */
  fitCentroids(x: tf.Tensor, settings: { readonly iterations?: number; readonly seed?: number } = {}): void {
    tidy(() => this.centroids.assign(fittedCentroids(this.#routedPoints(x), { clusters: this.config.clusters, ...settings })));
  }

  /**
   * Moves the centroids by one step of online k-means; `forward` with `training: true` does it by itself.
   *
   * @param x float32 [B, T, dim], as the layer receives it
   * @param decay λ, default that of the config
   */
  moveCentroids(x: tf.Tensor, decay = this.config.centroidDecay): void {
    tidy(() => this.centroids.assign(movedCentroids({ points: this.#routedPoints(x), centroids: this.centroids.value }, decay)));
  }

  /**
   * The commitment loss of a batch, to be added to a task loss: it draws queries (and keys) to their centroids. A training call gives it to its
   * sink by itself.
   *
   * @param x float32 [B, T, dim], as the layer receives it
   * @param weight β, default 1e-4
   * @returns a scalar, owned by the caller
   */
  commitmentLoss(x: tf.Tensor, weight = 1e-4): tf.Scalar {
    return tidy(() => commitmentLoss({ points: this.#routedPoints(x), centroids: this.centroids.value }, weight));
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths, training, losses } = input;
    const { window, localWindow, rotary, centroidDecay, commitment } = this.config;
    const causal = this.pattern === 'causal-self';
    const { local, routed } = this.#heads(x);
    const memory = this.memoryKey && this.memoryValue ? { memoryKey: this.memoryKey.value, memoryValue: this.memoryValue.value } : {};
    const tokens = { ...routed, ...memory, centroids: this.centroids.value };
    const far: { output: tf.Tensor; state?: State } = causal
      ? recentRouting(tokens, state, { window, valid, lengths })
      : routingAttention(
          { ...tokens, key: routed.key ?? routed.query },
          { window, sharedQueryKey: this.#shared, ...(valid ? { mask: valid } : {}) },
        );
    const near = local && localAttention(local, input, { window: localWindow, rotary, causal });
    const outputs = near ? tf.concat([near.output, far.output], 2) : far.output;
    const output = this.output.forward(tf.reshape(outputs, [x.shape[0], x.shape[1], -1])) as tf.Tensor3D;
    if (training) {
      const points = routed.key ? [routed.query, routed.key] : [routed.query];
      const tokensOf = { points, centroids: this.centroids.value, masks: points.map(() => valid) };
      if (losses && commitment > 0) losses.add('commitment', commitmentLoss(tokensOf, commitment));
      if (centroidDecay < 1) this.centroids.assign(movedCentroids(tokensOf, centroidDecay));
    }
    return { output, state: { ...near?.state, ...far.state, position: advance(state.position, x, lengths) } };
  }

  /** Local and routed heads [B, T, H, D]; a routed key is absent where it is shared. */
  #heads(x: tf.Tensor): { local: Heads | null; routed: { query: tf.Tensor; key?: tf.Tensor; value: tf.Tensor } } {
    const [batch, length] = x.shape as [number, number];
    const near = this.#localHeads;
    // local heads come first
    const cut = (linear: Linear): { local?: tf.Tensor; routed?: tf.Tensor } => {
      const flat = linear.forward(x);
      const count = flat.shape[2]! / this.#headDim;
      const all = tf.reshape(flat, [batch, length, count, this.#headDim]);
      if (near === 0) return { routed: all };
      if (near === count) return { local: all };
      const [local, routed] = tf.split(all, [near, count - near], 2) as [tf.Tensor, tf.Tensor];
      return { local, routed };
    };
    const [query, key, value] = [cut(this.query), this.key ? cut(this.key) : {}, cut(this.value)];
    return {
      local: near > 0 ? { query: query.local!, key: key.local!, value: value.local! } : null,
      routed: { query: query.routed!, value: value.routed!, ...(this.#shared ? {} : { key: key.routed! }) },
    };
  }

  #routedPoints(x: tf.Tensor): tf.Tensor[] {
    const { routed } = this.#heads(x);
    return routed.key ? [routed.query, routed.key] : [routed.query];
  }
}
