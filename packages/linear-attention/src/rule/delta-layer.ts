import {
  advance,
  checkSetting,
  deriveSeed,
  layerEntries,
  Linear,
  naturalNumber,
  positiveInteger,
  positiveNumber,
  SequenceMixer,
  ShortConvolution,
} from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import type { RuleState } from './run-rule.ts';
import { convolveRows, windowShapes } from './short-windows.ts';
import type { RoleConvolutions } from './short-windows.ts';

/** Config entries of every delta layer. */
export const deltaEntries = {
  ...layerEntries,
  /** taps of the short convolutions, 0: none */
  kernelSize: v.optional(naturalNumber, 4),
  /** add a learned vector in the short convolutions */
  convolutionBias: v.optional(v.boolean(), false),
  /** beta from 0 to 2 in the place of 0 to 1, so that a write can flip what the memory holds at a key */
  negativeEigenvalues: v.optional(v.boolean(), false),
  /** epsilon of the output norm */
  epsilon: v.optional(positiveNumber, 1e-5),
  form: v.optional(v.picklist(['chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
};

/** What a delta layer is built from. */
export interface DeltaLayerConfig {
  readonly dim: number;
  /** query and key heads */
  readonly heads: number;
  /** channels of a query or key head */
  readonly headDim: number;
  /** value heads, each with a memory of its own */
  readonly valueHeads: number;
  /** channels of a value head */
  readonly valueDim: number;
  readonly kernelSize: number;
  readonly convolutionBias: boolean;
  readonly negativeEigenvalues: boolean;
  readonly seed: number;
  readonly outputDeviation?: number | undefined;
  /** act on queries and keys after their convolution, default silu; values always have silu */
  readonly activation?: 'silu' | 'none';
  /** beta from the input, default true; otherwise it is one everywhere */
  readonly learnedBeta?: boolean;
}

/** Queries, keys and values of a piece, and the windows of their convolutions after it. */
export interface ConvolvedHeads {
  /** [B, T, H, K] */
  readonly query: tf.Tensor4D;
  /** [B, T, H, K] */
  readonly key: tf.Tensor4D;
  /** [B, T, Hv, V] */
  readonly value: tf.Tensor4D;
  readonly windows: Readonly<Record<string, tf.Tensor>>;
}

/**
 * What the layers of the delta rules have in common: three projections with a short convolution each, the strength of the write, a memory
 * per value head, and the output projection.
 *
 * State: `memory` [B, Hv, K, V], and `queryWindow`, `keyWindow`, `valueWindow` [B, kernelSize - 1, channels] where there are convolutions.
 */
export abstract class DeltaLayer extends SequenceMixer {
  readonly mechanism: string;
  readonly pattern = 'causal-self';
  readonly dim: number;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly queryConvolution: ShortConvolution | null;
  readonly keyConvolution: ShortConvolution | null;
  readonly valueConvolution: ShortConvolution | null;
  /** null where beta is one */
  readonly beta: Linear | null;
  readonly output: Linear;
  protected readonly sizes: DeltaLayerConfig;

  protected constructor(mechanism: string, config: DeltaLayerConfig) {
    super();
    this.mechanism = mechanism;
    this.sizes = config;
    this.dim = config.dim;
    const { dim, heads, headDim, valueHeads, valueDim, kernelSize, convolutionBias: bias, seed, activation = 'silu' } = config;
    checkSetting(
      mechanism,
      'config.valueHeads',
      valueHeads % heads === 0,
      `a multiple of the ${heads} heads`,
      valueHeads,
      'Group value heads evenly over query and key heads.',
    );
    const project = (name: string, out: number): Linear => new Linear({ in: dim, out, seed: deriveSeed(seed, name) });
    const convolve = (name: string, channels: number, act: 'silu' | 'none'): ShortConvolution | null =>
      kernelSize === 0 ? null : new ShortConvolution({ channels, kernelSize, bias, activation: act, seed: deriveSeed(seed, name) });
    this.query = project('query', heads * headDim);
    this.key = project('key', heads * headDim);
    this.value = project('value', valueHeads * valueDim);
    this.queryConvolution = convolve('queryConvolution', heads * headDim, activation);
    this.keyConvolution = convolve('keyConvolution', heads * headDim, activation);
    this.valueConvolution = convolve('valueConvolution', valueHeads * valueDim, 'silu');
    this.beta = (config.learnedBeta ?? true) ? project('beta', valueHeads) : null;
    this.output = new Linear({ in: valueHeads * valueDim, out: dim, seed: deriveSeed(seed, 'output'), deviation: config.outputDeviation });
  }

  stateShapes(batch: number): StateShapes {
    const { headDim, valueHeads, valueDim } = this.sizes;
    return { memory: [batch, valueHeads, headDim, valueDim], ...windowShapes(this.#convolutions, batch) };
  }

  get #convolutions(): RoleConvolutions<'query' | 'key' | 'value'> {
    return { query: this.queryConvolution, key: this.keyConvolution, value: this.valueConvolution };
  }

  /** Recall, write and read of every memory. */
  override mixingFlops(): number {
    const { headDim, valueHeads, valueDim } = this.sizes;
    return 6 * valueHeads * headDim * valueDim;
  }

  /** Queries, keys and values of the input, convolved, activated and split into heads. */
  protected heads({ x, state, lengths }: MixInput): ConvolvedHeads {
    const { heads, valueHeads, activation = 'silu' } = this.sizes;
    const projected = { query: this.query.forward(x), key: this.key.forward(x), value: this.value.forward(x) };
    const { rows, windows } = convolveRows(projected, this.#convolutions, { state, lengths });
    // the convolutions activate what they give
    const activate = (given: tf.Tensor, act: 'silu' | 'none'): tf.Tensor =>
      this.queryConvolution || act === 'none' ? given : tf.mul(given, tf.sigmoid(given));
    return {
      query: splitHeads(activate(rows.query, activation), heads),
      key: splitHeads(activate(rows.key, activation), heads),
      value: splitHeads(activate(rows.value, 'silu'), valueHeads),
      windows,
    };
  }

  /** beta [B, T, Hv]: `sigmoid(x W)`, twice that with negative eigenvalues. */
  protected strength(x: tf.Tensor3D): tf.Tensor {
    const { valueHeads, negativeEigenvalues } = this.sizes;
    const beta = this.beta ? tf.sigmoid(this.beta.forward(x)) : tf.ones([x.shape[0], x.shape[1], valueHeads]);
    return negativeEigenvalues ? tf.mul(beta, 2) : beta;
  }

  /** Joins what the heads read, [B, T, Hv, V] after the norm, and the state after the piece. */
  protected finish(
    { x, state, lengths }: MixInput,
    read: tf.Tensor,
    { memory }: RuleState,
    windows: ConvolvedHeads['windows'],
  ): MixerResult {
    const [batch, length] = x.shape;
    const output = this.output.forward(tf.reshape(read, [batch, length, -1])) as tf.Tensor3D;
    return { output, state: { memory, ...windows, position: advance(state.position, x, lengths) } };
  }
}

/** [B, T, H D] as [B, T, H, D]. */
export function splitHeads(rows: tf.Tensor, heads: number): tf.Tensor4D {
  const [batch, length, width] = rows.shape as [number, number, number];
  return tf.reshape(rows, [batch, length, heads, width / heads]);
}
