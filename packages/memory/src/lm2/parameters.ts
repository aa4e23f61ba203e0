import type * as tf from '@tensorflow/tfjs-core';
import type { Affine, NormTensors } from '../dense.ts';

/** Learned tensors of the read. */
export interface Lm2ReadParameters {
  /** D to D */
  readonly query: Affine;
  /** a bias would change nothing: softmax does not see it */
  readonly key: Affine;
  readonly value: Affine;
  /** W_out */
  readonly gate: Affine;
}

/** Learned tensors of the update of slots by what they attended to. */
export interface Lm2UpdateParameters {
  /** D to D, applied twice */
  readonly channel: Affine;
  readonly attendedNorm: NormTensors;
  readonly channelNorm: NormTensors;
  /** w [D], scales tokens before they are pooled */
  readonly inputScale: tf.Tensor;
  /** D to 2 D, of the pooled tokens: input gate, then forget gate */
  readonly inputGate: Affine;
  /** D to 2 D, of tanh(memory) */
  readonly memoryGate: Affine;
  /** scalars */
  readonly inputBias: tf.Tensor;
  readonly forgetBias: tf.Tensor;
}

/** Learned tensors of the write: slots attend to tokens, and are updated. */
export interface Lm2WriteParameters extends Lm2UpdateParameters {
  /** D to D, of the slots */
  readonly query: Affine;
  /** D to D, of the tokens */
  readonly key: Affine;
  readonly value: Affine;
}
