import * as tf from '@tensorflow/tfjs-core';
import { Parameter, zeros } from '@seqloom/core';
import { countLoads } from './route.ts';

/** The bias b [E] that a router adds to its scores for the choice only, with the loads that move it; it has no gradient. */
export class SelectionBias extends Parameter {
  /** tokens that chose each expert in training since the last `rebalance`; no part of a checkpoint */
  readonly loads: Parameter;

  constructor(experts: number) {
    super([experts], zeros, 0, { trainable: false, decay: false });
    this.loads = new Parameter([experts], zeros, 0, { trainable: false, decay: false });
  }

  /** Adds the choices of a call, int32 [N, k]. */
  count(experts: tf.Tensor2D): void {
    tf.tidy(() => this.loads.assign(tf.add(this.loads.value, tf.reshape(countLoads(experts, this.size), [this.size]))));
  }

  /** `b += rate sign(mean load - load)`, and counting starts anew. */
  rebalance(rate: number): void {
    tf.tidy(() => {
      const { value } = this.loads;
      this.assign(tf.add(this.value, tf.mul(tf.sign(tf.sub(tf.mean(value), value)), rate)));
      this.loads.assign(tf.zeros([this.size]));
    });
  }

  override dispose(): void {
    this.loads.dispose();
    super.dispose();
  }
}
