import type * as tf from '@tensorflow/tfjs-core';
import type { Affine, NormTensors } from '../dense.ts';

/** Learned maps of an attention, all D to D. */
export interface AttentionTensors {
  readonly query: Affine;
  readonly key: Affine;
  readonly value: Affine;
  readonly output: Affine;
}

/** The paper's writer: slot attention, then biased memory normalisation. */
export interface NormalisedWriterTensors extends AttentionTensors {
  /** v_bias [N, D] */
  readonly slotBias: tf.Tensor;
}

/** The reference code's writer: slot attention, then a gated recurrent unit and a feed-forward layer. */
export interface GatedWriterTensors extends AttentionTensors {
  /** D to 3 D of what was attended to: reset, update, candidate */
  readonly gateInput: Affine;
  /** D to 3 D of the slot before */
  readonly gateMemory: Affine;
  readonly norm: NormTensors;
  /** D to 4 D */
  readonly up: Affine;
  /** 4 D to D */
  readonly down: Affine;
}

/** Learned tensors of `memformerMemory`; the writer is the one whose tensors they are. */
export interface MemformerParameters {
  readonly read: AttentionTensors;
  readonly write: NormalisedWriterTensors | GatedWriterTensors;
}
