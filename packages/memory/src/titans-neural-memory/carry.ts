import type * as tf from '@tensorflow/tfjs-core';

/** Tokens of one chunk, or of a part of it; N = rows times heads, C tokens. */
export interface MemoryPiece {
  /** [N, C, D] */
  readonly query: tf.Tensor;
  /** [N, C, D] */
  readonly key: tf.Tensor;
  /** [N, C, E] */
  readonly value: tf.Tensor;
  /** theta [N, C], zero at padding */
  readonly stepSize: tf.Tensor;
  /** log(1 - alpha) [N, C], zero at padding */
  readonly logDecay: tf.Tensor;
  /** log eta [N, C], zero at padding; null: no momentum */
  readonly logMomentum: tf.Tensor | null;
  /** [N, C], 1 for tokens; null when there is no padding */
  readonly valid: tf.Tensor | null;
}

/** What goes from piece to piece: per layer of the network one tensor [N, in, out]. */
export interface MemoryCarry {
  /** W, the memory */
  readonly weights: readonly tf.Tensor[];
  /** S; empty without momentum */
  readonly momenta: readonly tf.Tensor[];
  /** W at the start of the chunk, where the chunk's gradients are taken */
  readonly references: readonly tf.Tensor[];
}
