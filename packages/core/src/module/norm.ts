import type * as tf from '@tensorflow/tfjs-core';
import { rmsNorm } from '../kernel/rms-norm.ts';
import { ones } from './initialiser.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/**
 * Root-mean-square normalisation of the last axis: `y = x / sqrt(mean(x^2) + epsilon) * weight`.
 *
 * Source: Zhang & Sennrich 2019, "Root mean square layer normalization".
 */
export class RmsNorm extends Module {
  /** null when not affine */
  readonly weight: Parameter | null;
  readonly epsilon: number;
  readonly groups: number;

  /** @param config dim; epsilon (1e-5); affine: a learned factor per channel (true); groups: equal slices that are normalised apart (1) */
  constructor(config: { readonly dim: number; readonly epsilon?: number; readonly affine?: boolean; readonly groups?: number }) {
    super();
    const { dim, epsilon = 1e-5, affine = true, groups = 1 } = config;
    this.weight = affine ? new Parameter([dim], ones, 0) : null;
    this.epsilon = epsilon;
    this.groups = groups;
  }

  /** @param x float32 [..., dim] */
  forward<T extends tf.Tensor>(x: T): T {
    const { epsilon, groups } = this;
    return rmsNorm({ input: x, ...(this.weight ? { weight: this.weight.value } : {}) }, { epsilon, groups }) as T;
  }
}

/** Config of `GatedRmsNorm`. */
export interface GatedRmsNormConfig {
  readonly dim: number;
  /** default 1e-5 */
  readonly epsilon?: number;
  /** act of the gate, default silu */
  readonly activation?: 'silu' | 'sigmoid';
  /** whether the gate multiplies the normalised value (true, the default) or what is normalised (false) */
  readonly normBeforeGate?: boolean;
  /** equal slices of the channels that are normalised apart, default 1 */
  readonly groups?: number;
}

/**
 * Root-mean-square normalisation with an output gate: `y = x / sqrt(mean(x^2) + epsilon) * weight * act(gate)`, or with the gate inside
 * the norm, `y = rms(x * act(gate)) * weight`.
 *
 * Source: the output stage of gated linear attention (Yang et al. 2023) and Mamba-2 (Dao & Gu 2024).
 */
export class GatedRmsNorm extends Module {
  readonly weight: Parameter;
  readonly config: Required<GatedRmsNormConfig>;

  constructor(config: GatedRmsNormConfig) {
    super();
    this.config = { epsilon: 1e-5, activation: 'silu', normBeforeGate: true, groups: 1, ...config };
    this.weight = new Parameter([config.dim], ones, 0);
  }

  /**
   * @param x float32 [..., dim]
   * @param gate the gate before its activation, the shape of x
   */
  forward<T extends tf.Tensor>(x: T, gate: tf.Tensor): T {
    const { epsilon, activation: gateActivation, normBeforeGate, groups } = this.config;
    return rmsNorm({ input: x, weight: this.weight.value, gate }, { epsilon, gateActivation, normBeforeGate, groups }) as T;
  }
}
