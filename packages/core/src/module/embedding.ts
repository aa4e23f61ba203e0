import type * as tf from '@tensorflow/tfjs-core';
import { gatherRows } from '../kernel/rows.ts';
import { normal } from './initialiser.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** A table of learned rows, looked up by id. */
export class Embedding extends Module {
  readonly weight: Parameter;

  /** @param config rows, width, seed and standard deviation (default 0.02) */
  constructor(config: { readonly count: number; readonly dim: number; readonly seed?: number; readonly deviation?: number }) {
    super();
    this.weight = new Parameter([config.count, config.dim], normal(config.deviation ?? 0.02), config.seed ?? 0);
  }

  /**
   * @param ids int32, any shape
   * @returns [...ids.shape, dim]
   */
  forward(ids: tf.Tensor): tf.Tensor {
    return gatherRows({ table: this.weight.value, indices: ids });
  }
}
