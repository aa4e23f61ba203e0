import * as tf from '@tensorflow/tfjs-core';
import { rotaryEmbedding } from '@seqloom/attention';
import {
  advance,
  deriveSeed,
  divideHeads,
  fail,
  layerEntries,
  Linear,
  parseConfig,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { neighborhoodCacheShapes, rollingNeighborhood } from './decode.ts';
import { neighborhoodAttention } from './neighborhood-attention.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** query heads H */
  heads: positiveInteger,
  /** key and value heads G, a divisor of H; default H */
  kvHeads: v.optional(positiveInteger),
  /** default dim / heads */
  headDim: v.optional(positiveInteger),
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  /** w, tokens that a query sees, itself included */
  window: positiveInteger,
  /** δ, distance between them */
  dilation: v.optional(positiveInteger, 1),
  /** s, neighbours that share a window; noncausal only */
  stride: v.optional(positiveInteger, 1),
  /** learned vectors on all four projections */
  bias: v.optional(v.boolean(), true),
  /** rotary positions; default none, as in the original */
  rotary: v.optional(v.nullable(v.strictObject({ base: v.optional(positiveNumber, 10000) })), null),
  /** multiplies scores; default headDim^-0.5 */
  scale: v.optional(positiveNumber),
});

/** Config of `NeighborhoodAttention`: dim, heads and window; all else has a default. */
export type NeighborhoodAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'neighborhood-attention';

/**
 * Neighborhood attention of a sequence: each token reads its w nearest tokens, δ apart, in time linear in T.
 *
 * Causal layers decode with a cache of the last δ (w - 1) tokens; noncausal ones keep exactly w keys at both ends of each row.
 * Parameters: 2 dim (H + G) headDim for the projections, and (H + 2 G) headDim + dim for their vectors.
 *
 * @see Hassani et al. 2022, arXiv 2204.07143 and 2209.15001
 */
export class NeighborhoodAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly #kvHeads: number;
  readonly #headDim: number;

  constructor(config: NeighborhoodAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, kvHeads = heads, window, stride, pattern, bias, rotary, seed, outputDeviation: deviation } = this.config;
    divideHeads(MECHANISM, heads, kvHeads, 'config.kvHeads');
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    const wanted = pattern === 'causal-self' ? 1 : window;
    if (stride > wanted) {
      fail({
        mechanism: MECHANISM,
        argument: 'config.stride',
        wanted: pattern === 'causal-self' ? '1 with causality' : `at most the window ${window}`,
        given: String(stride),
        remedy: 'A larger window costs nothing in parameters; with causality leave the stride out.',
      });
    }
    if (rotary && headDim % 2 !== 0) {
      fail({
        mechanism: MECHANISM,
        argument: 'config.rotary',
        wanted: 'null for odd head widths',
        given: `a head width of ${headDim}`,
        remedy: 'Rotary positions turn pairs of channels: choose an even head width.',
      });
    }
    this.dim = dim;
    this.pattern = pattern;
    this.#kvHeads = kvHeads;
    this.#headDim = headDim;
    const linear = (name: string, from: number, to: number): Linear =>
      new Linear({ in: from, out: to, bias, seed: deriveSeed(seed, name) });
    this.query = linear('query', dim, heads * headDim);
    this.key = linear('key', dim, kvHeads * headDim);
    this.value = linear('value', dim, kvHeads * headDim);
    this.output = new Linear({ in: heads * headDim, out: dim, bias, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const { window, dilation } = this.config;
    return neighborhoodCacheShapes(batch, { window, dilation, heads: this.#kvHeads, headDim: this.#headDim });
  }

  override mixingFlops(length: number): number {
    const { heads, window, dilation } = this.config;
    return 4 * heads * this.#headDim * Math.min(Math.ceil(length / dilation), window);
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const { heads, window, dilation, stride, rotary, scale } = this.config;
    const [batch, length] = x.shape;
    const split = (flat: tf.Tensor, count: number): tf.Tensor => tf.reshape(flat, [batch, length, count, this.#headDim]);
    const value = split(this.value.forward(x), this.#kvHeads);
    const plain = { query: split(this.query.forward(x), heads), key: split(this.key.forward(x), this.#kvHeads) };
    const positions = rotary && tf.add(tf.reshape(state.position, [batch, 1]), tf.range(0, length, 1, 'float32'));
    const turned = rotary && positions ? rotaryEmbedding({ ...plain, positions }, rotary) : plain;
    const tokens = { ...turned, value };
    const join = (o: tf.Tensor): tf.Tensor3D => this.output.forward(tf.reshape(o, [batch, length, -1])) as tf.Tensor3D;
    if (this.pattern === 'causal-self') {
      const result = rollingNeighborhood(tokens, state, { window, dilation, scale, valid, lengths });
      return { output: join(result.output), state: result.state };
    }
    const result = neighborhoodAttention(tokens, { window, dilation, stride, scale, ...(lengths ? { lengths } : {}) });
    return { output: join(result.output), state: { position: advance(state.position, x, lengths) } };
  }
}
