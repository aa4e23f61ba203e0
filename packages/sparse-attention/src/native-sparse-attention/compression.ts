import * as tf from '@tensorflow/tfjs-core';
import { deriveSeed, Linear, Module, normal, Parameter, tidy } from '@seqloom/core';

/** Makes one key (or value) of the tokens of each window: [B, N, l, G, D] to [B, N, G, D]. */
export type Compress = (windows: tf.Tensor5D) => tf.Tensor4D;

/** The mean of the tokens of each window. */
export const meanCompression: Compress = (windows) => tf.mean(windows, 2);

/** How windows become keys and values; the same names as in the options of native sparse attention. */
export interface Compression {
  readonly compressionLength: number;
  readonly compressionStride: number;
  readonly compressKey: Compress;
  readonly compressValue: Compress;
}

/** The compression that options ask for, with the defaults of the paper's sizes and of means. */
export function compressionOf(options: { readonly [K in keyof Compression]?: Compression[K] | undefined }): Compression {
  return {
    compressionLength: options.compressionLength ?? 32,
    compressionStride: options.compressionStride ?? 16,
    compressKey: options.compressKey ?? meanCompression,
    compressValue: options.compressValue ?? meanCompression,
  };
}

/**
 * The learned compression of the paper: the tokens of a window, each with a learned vector for its place added, through an MLP,
 * `W_2 silu(W_1 [x_1 + p_1; ...; x_l + p_l])`; the same for every head, l D + l D D + D D parameters.
 */
export class WindowCompression extends Module {
  /** [l, D] */
  readonly place: Parameter;
  readonly hidden: Linear;
  readonly output: Linear;

  constructor(config: { readonly length: number; readonly headDim: number; readonly seed: number }) {
    super();
    const { length, headDim, seed } = config;
    this.place = new Parameter([length, headDim], normal(0.02), deriveSeed(seed, 'place'));
    this.hidden = new Linear({ in: length * headDim, out: headDim, seed: deriveSeed(seed, 'hidden') });
    this.output = new Linear({ in: headDim, out: headDim, seed: deriveSeed(seed, 'output') });
  }

  /** As a `Compress`. */
  readonly compress: Compress = (windows) =>
    tidy(() => {
      const [batch, count, length, heads, headDim] = windows.shape;
      // [B N, l, G, D]: tfjs-webgpu broadcasts at most four axes
      const placed = tf.add(
        tf.reshape(windows, [batch * count, length, heads, headDim]),
        tf.reshape(this.place.value, [length, 1, headDim]),
      );
      const flat = tf.reshape(tf.transpose(placed, [0, 2, 1, 3]), [batch, count, heads, length * headDim]);
      const inner = this.hidden.forward(flat);
      return this.output.forward(tf.mul(inner, tf.sigmoid(inner))) as tf.Tensor4D;
    });
}
