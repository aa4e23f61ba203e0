import type * as tf from '@tensorflow/tfjs-core';
import type { Parameter, State, StateDict } from '@seqloom/core';

/** What can be trained: anything with named parameters and a summed next-token loss. */
export interface TrainableModel {
  /** plain JSON that the model can be built from again */
  readonly config: unknown;
  namedParameters(): ReadonlyMap<string, Parameter>;
  stateDict(): Promise<StateDict>;
  loadStateDict(weights: StateDict): void;
  /**
   * @param ids int32 [B, T]
   * @param labels int32 [B, T]; negative labels do not count
   * @returns summed loss in nats, a scalar, and the state after the piece
   */
  loss(
    ids: tf.Tensor,
    labels: tf.Tensor,
    options?: { readonly state?: State; readonly training?: boolean },
  ): { readonly sum: tf.Scalar; readonly state: State };
  /** called after each optimiser step, for what is learned without a gradient */
  afterStep?(): void;
}
