import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { gatherRowsKernel, Module, normal, Parameter, parseConfig, positiveInteger } from '@seqloom/core';
import { gatheredForm } from './gathered.ts';
import type { ChosenSlots } from './select-slots.ts';

const Schema = v.strictObject({
  /** n, half keys; the table has n^2 slots */
  halfKeys: positiveInteger,
  /** E, width of a value */
  dim: positiveInteger,
  /** keep the gradients of looked-up rows for `SparseAdamW`, instead of a gradient as large as the table */
  sparse: v.optional(v.boolean(), true),
  seed: v.optional(v.number(), 0),
});

/** Config of `MemoryTable`: halfKeys and dim; all else has a default. */
export type MemoryTableConfig = v.InferInput<typeof Schema>;

/** What one backward pass says about the rows that one lookup read: row `indices[n, j]` has the gradient `weights[n, j] upstream[n]`. */
export interface RowGradients {
  readonly indices: tf.Tensor;
  readonly weights: tf.Tensor;
  /** [N, E] */
  readonly upstream: tf.Tensor;
}

/**
 * The values of memory layers, n^2 rows, which several layers may share; parameters: n^2 E.
 *
 * A sparse table is frozen for optimisers of dense gradients. Each backward pass through a lookup leaves the gradients of its rows here,
 * until `SparseAdamW.step` takes them or `discard` drops them: backward passes before a step add up.
 */
export class MemoryTable extends Module {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  /** [n^2, E]; learns ten times as fast and without decay where it is dense */
  readonly values: Parameter;
  readonly #pending: RowGradients[] = [];

  constructor(config: MemoryTableConfig) {
    super();
    this.config = parseConfig('memory-layers-at-scale', Schema, config);
    const { halfKeys, dim, sparse, seed } = this.config;
    const shape = [halfKeys ** 2, dim];
    this.values = new Parameter(shape, normal(1 / Math.sqrt(dim)), seed, { decay: false, trainable: !sparse });
  }

  /** Backward passes whose gradients wait for a step. */
  get pending(): number {
    return this.#pending.length;
  }

  /** The weighted sum of chosen rows [N, E]. */
  lookUp(chosen: ChosenSlots): tf.Tensor2D {
    if (!this.config.sparse) return gatheredForm(chosen, this.values.value);
    const { indices } = chosen;
    const bag = tf.customGrad((given: tf.Tensor | tf.GradSaveFunc, save: tf.Tensor | tf.GradSaveFunc) => {
      const weights = given as tf.Tensor2D;
      const value = gatheredForm({ indices, weights }, this.values.value);
      // saved last: what is saved stays alive when a later operation throws
      (save as tf.GradSaveFunc)([weights, indices]);
      return {
        value,
        gradFunc: (upstream: tf.Tensor, saved: tf.Tensor[]) => {
          const [held, slots] = saved as [tf.Tensor2D, tf.Tensor2D];
          this.#receive({ weights: held, indices: slots, upstream });
          const [count, many] = slots.shape;
          const { rows } = gatherRowsKernel.run({ table: this.values.value, indices: slots }, {});
          const gradient = tf.matMul(rows as tf.Tensor3D, tf.reshape(upstream, [count, upstream.shape[1]!, 1]) as tf.Tensor3D);
          return tf.reshape(gradient, [count, many]);
        },
      };
    });
    return bag(chosen.weights) as tf.Tensor2D;
  }

  /** Hands over the gradients that wait; they are the caller's. */
  take(): RowGradients[] {
    return this.#pending.splice(0);
  }

  /** Drops the gradients that wait. */
  discard(): void {
    tf.dispose(this.take().map((gradients) => ({ ...gradients })));
  }

  override dispose(): void {
    this.discard();
    super.dispose();
  }

  #receive({ indices, weights, upstream }: RowGradients): void {
    const kept = (tensor: tf.Tensor): tf.Tensor => tf.keep(tf.clone(tensor));
    this.#pending.push({ indices: kept(indices), weights: kept(weights), upstream: kept(upstream) });
  }
}
