import * as tf from '@tensorflow/tfjs-core';
import { Block, deriveSeed, Embedding, GatedConvolution, Linear, Module, RmsNorm, softmaxCrossEntropy, tidy } from '@seqloom/core';
import type { State } from '@seqloom/core';
import type { TrainableModel } from './model.ts';

/** Config of `ToyModel`. */
export interface ToyConfig {
  readonly vocabSize: number;
  readonly dim: number;
  readonly seed?: number;
}

/** The smallest language model worth training, for tests: embedding, one block with a short convolution, head. */
export class ToyModel extends Module implements TrainableModel {
  readonly config: ToyConfig;
  readonly embedding: Embedding;
  readonly block: Block;
  readonly norm: RmsNorm;
  readonly head: Linear;

  constructor(config: ToyConfig) {
    super();
    const { vocabSize, dim, seed = 0 } = config;
    this.config = config;
    this.embedding = new Embedding({ count: vocabSize, dim, seed: deriveSeed(seed, 'embedding') });
    this.block = new Block({ mixer: new GatedConvolution({ dim, kernelSize: 4, expand: 1, seed: deriveSeed(seed, 'mixer') }) });
    this.norm = new RmsNorm({ dim });
    this.head = new Linear({ in: dim, out: vocabSize, bias: true, deviation: 0.02, seed: deriveSeed(seed, 'head') });
  }

  loss(ids: tf.Tensor, labels: tf.Tensor, options: { readonly state?: State } = {}): { sum: tf.Scalar; state: State } {
    return tidy(() => {
      const { output, state } = this.block.forward(this.embedding.forward(ids), options.state ? { state: options.state } : {});
      const rows = tf.reshape(this.norm.forward(output), [-1, this.config.dim]);
      const { loss } = softmaxCrossEntropy({ logits: this.head.forward(rows), labels: tf.reshape(labels, [-1]) });
      return { sum: tf.sum(loss) as tf.Scalar, state };
    });
  }
}
