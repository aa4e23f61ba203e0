import * as tf from '@tensorflow/tfjs-core';
import {
  checkTensor,
  deriveSeed,
  divideHeads,
  layerEntries,
  Linear,
  Module,
  parseConfig,
  positiveInteger,
  positiveNumber,
  tidy,
} from '@seqloom/core';
import * as v from 'valibot';
import { neighborhoodAxes } from './axes.ts';
import { neighborhoodAttention } from './neighborhood-attention.ts';

const perAxis = v.union([positiveInteger, v.array(positiveInteger)]);

const Schema = v.strictObject({
  ...layerEntries,
  /** query heads H */
  heads: positiveInteger,
  /** axes of the grid: 1, 2 or 3 */
  axes: v.picklist([1, 2, 3]),
  /** w per axis (depth, height, width), or once for all */
  window: perAxis,
  dilation: v.optional(perAxis, 1),
  stride: v.optional(perAxis, 1),
  causal: v.optional(v.union([v.boolean(), v.array(v.boolean())]), false),
  /** learned vectors on all four projections */
  bias: v.optional(v.boolean(), true),
  /** multiplies scores; default (dim / heads)^-0.5 */
  scale: v.optional(positiveNumber),
});

/** Config of `GridNeighborhoodAttention`: dim, heads, axes and window; all else has a default. */
export type GridNeighborhoodAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'neighborhood-attention';

/**
 * Neighborhood attention of images and volumes, with the projections around it.
 *
 * A grid has no order to decode in, so this is a plain module without state. Parameters: 4 dim^2 + 4 dim.
 *
 * @see Hassani et al. 2022, arXiv 2204.07143 and 2209.15001
 */
export class GridNeighborhoodAttention extends Module {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;

  constructor(config: GridNeighborhoodAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, bias, seed, axes, outputDeviation: deviation } = this.config;
    divideHeads(MECHANISM, dim, heads);
    neighborhoodAxes(MECHANISM, axes, this.config, 'config.');
    const linear = (name: string): Linear => new Linear({ in: dim, out: dim, bias, seed: deriveSeed(seed, name) });
    this.query = linear('query');
    this.key = linear('key');
    this.value = linear('value');
    this.output = new Linear({ in: dim, out: dim, bias, seed: deriveSeed(seed, 'output'), deviation });
  }

  /**
   * @param x float32 [B, L1, dim], [B, L1, L2, dim] or [B, L1, L2, L3, dim], as many axes as the config says
   * @returns a new tensor of the shape of `x`, owned by the caller
   * @throws SeqLoomError when rank, width or dtype do not fit
   */
  forward(x: tf.Tensor): tf.Tensor {
    const { dim, heads, axes, window, dilation, stride, causal, scale } = this.config;
    checkTensor(MECHANISM, 'x', x, ['batch', ...['axis 1', 'axis 2', 'axis 3'].slice(0, axes), dim]);
    return tidy(() => {
      const split = (flat: tf.Tensor): tf.Tensor => tf.reshape(flat, [...x.shape.slice(0, -1), heads, dim / heads]);
      const [query, key, value] = [this.query, this.key, this.value].map((linear) => split(linear.forward(x)));
      const mixed = neighborhoodAttention({ query: query!, key: key!, value: value! }, { window, dilation, stride, causal, scale });
      return this.output.forward(tf.reshape(mixed.output, x.shape));
    });
  }
}
