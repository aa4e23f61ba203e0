import * as tf from '@tensorflow/tfjs-core';
import { rmsNorm } from '../kernel/rms-norm.ts';
import { ones, zeros } from './initialiser.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/**
 * Root-mean-square normalisation of the last axis: `y = x / sqrt(mean(x^2) + epsilon) * weight`, or `* (1 + weight)` when zero-centred.
 *
 * Source: Zhang & Sennrich 2019, "Root mean square layer normalization".
 */
export class RmsNorm extends Module {
  /** null when not affine */
  readonly weight: Parameter | null;
  readonly epsilon: number;
  readonly groups: number;
  readonly zeroCentered: boolean;

  /**
   * @param config dim; epsilon (1e-5); affine: a learned factor per channel (true); groups: equal slices that are normalised apart (1);
   *   zeroCentered: the factor is 1 + weight and the weight starts at zero, as in Gemma and Qwen3-Next (false)
   */
  constructor(config: {
    readonly dim: number;
    readonly epsilon?: number;
    readonly affine?: boolean;
    readonly groups?: number;
    readonly zeroCentered?: boolean;
  }) {
    super();
    const { dim, epsilon = 1e-5, affine = true, groups = 1, zeroCentered = false } = config;
    this.weight = affine ? new Parameter([dim], zeroCentered ? zeros : ones, 0) : null;
    this.epsilon = epsilon;
    this.groups = groups;
    this.zeroCentered = zeroCentered;
  }

  /** @param x float32 [..., dim] */
  forward<T extends tf.Tensor>(x: T): T {
    const { epsilon, groups, weight, zeroCentered } = this;
    if (!weight) return rmsNorm({ input: x }, { epsilon, groups }) as T;
    return tf.tidy(() => rmsNorm({ input: x, weight: zeroCentered ? tf.add(weight.value, 1) : weight.value }, { epsilon, groups }) as T);
  }
}

/**
 * Layer normalisation of the last axis: `y = (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias`.
 *
 * Source: Ba, Kiros & Hinton 2016, "Layer normalization".
 */
export class LayerNorm extends Module {
  /** null when not affine */
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly epsilon: number;

  /** @param config dim; epsilon (1e-5); affine: learned factor and shift (true) */
  constructor(config: { readonly dim: number; readonly epsilon?: number; readonly affine?: boolean }) {
    super();
    const { dim, epsilon = 1e-5, affine = true } = config;
    this.weight = affine ? new Parameter([dim], ones, 0) : null;
    this.bias = affine ? new Parameter([dim], zeros, 0) : null;
    this.epsilon = epsilon;
  }

  /** @param x float32 [..., dim] */
  forward<T extends tf.Tensor>(x: T): T {
    return tf.tidy(() => {
      // the root mean square of what is left of the mean is its deviation, so the fused kernel does the rest
      const centred = tf.sub(x, tf.mean(x, -1, true));
      const scaled = rmsNorm({ input: centred, ...(this.weight ? { weight: this.weight.value } : {}) }, { epsilon: this.epsilon });
      return (this.bias ? tf.add(scaled, this.bias.value) : scaled) as T;
    });
  }
}

/** A norm of a stack: which, its epsilon, whether it has a learned factor, and whether that is counted from 1. */
export interface NormConfig {
  /** default rms */
  readonly type?: 'rms' | 'layer' | undefined;
  /** default 1e-5 */
  readonly epsilon?: number | undefined;
  /** default true */
  readonly affine?: boolean | undefined;
  /** for rms, default false */
  readonly zeroCentered?: boolean | undefined;
}

/** Either norm. */
export type Norm = RmsNorm | LayerNorm;

/** Makes the norm that a config describes. */
export function makeNorm(dim: number, { type = 'rms', epsilon = 1e-5, affine = true, zeroCentered = false }: NormConfig = {}): Norm {
  return type === 'layer' ? new LayerNorm({ dim, epsilon, affine }) : new RmsNorm({ dim, epsilon, affine, zeroCentered });
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
