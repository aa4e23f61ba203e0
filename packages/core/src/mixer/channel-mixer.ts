import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { parseConfig, positiveInteger, positiveNumber } from '../config.ts';
import { Linear } from '../module/linear.ts';
import { Module } from '../module/module.ts';
import { deriveSeed } from '../module/random.ts';
import { tidy } from '../tidy.ts';

/** Takes losses beside the task's, by name, such as a router's balance; those of one name add up. */
export interface LossSink {
  /** @param value already multiplied by its coefficient */
  add(name: string, value: tf.Scalar): void;
}

/**
 * Runs work in a scope of its own and hands its losses on when the scope is over, so that they live as long as the result.
 *
 * @param losses where they go; absent: none are computed
 * @param work makes tensors, with the sink to pass on; must not be async
 */
export function tidyLosses<T>(losses: LossSink | undefined, work: (losses: LossSink | undefined) => T): T {
  if (!losses) return tidy(() => work(undefined));
  const { result, added } = tidy(() => {
    const collected: [string, tf.Scalar][] = [];
    return { result: work({ add: (name, value) => void collected.push([name, value]) }), added: collected };
  });
  for (const [name, value] of added) losses.add(name, value);
  return result;
}

/** What a channel mixer may be told beside its input. */
export interface ChannelOptions {
  readonly training?: boolean;
  /** [B, T], 1 for tokens and 0 for padding; null: no padding */
  readonly valid?: tf.Tensor2D | null;
  /** takes auxiliary losses; absent: none are computed */
  readonly losses?: LossSink | undefined;
}

/** A layer that mixes the channels of each token by itself. */
export abstract class ChannelMixer extends Module {
  /** width D of input and output */
  abstract readonly dim: number;

  /** Weights of matrices that one token does not meet, such as those of experts it does not go to. */
  idleWeights(): number {
    return 0;
  }

  /**
   * @param x float32 [B, T, D]
   * @returns [B, T, D]
   */
  abstract forward(x: tf.Tensor3D, options?: ChannelOptions): tf.Tensor3D;

  /** What a trainer calls after each optimiser step; a router with a selection bias balances its experts here. */
  afterStep(): void {}
}

const MlpSchema = v.strictObject({
  /** width of input and output */
  dim: positiveInteger,
  /** inner width; default 2 dim when gated, 4 dim when not */
  hidden: v.optional(positiveInteger),
  /** act(W_gate x) * (W_up x), as in SwiGLU; otherwise act(W_up x) */
  gated: v.optional(v.boolean(), true),
  /** gelu-tanh: GPT-2's approximation; none: the product of two linear maps, as in TransNormerLLM's SGLU */
  activation: v.optional(v.picklist(['silu', 'gelu', 'gelu-tanh', 'relu', 'none']), 'silu'),
  bias: v.optional(v.boolean(), false),
  seed: v.optional(v.number(), 0),
  /** factor on the gate before its activation, as in Falcon-H1 */
  gateScale: v.optional(positiveNumber, 1),
  /** standard deviation of the output matrix; default 1 / sqrt(hidden) */
  outputDeviation: v.optional(v.number()),
});

/** Config of `Mlp`. */
export type MlpConfig = v.InferInput<typeof MlpSchema>;

/**
 * The feed-forward layer: `W_down (act(W_gate x) * W_up x)`.
 *
 * Source: Shazeer 2020, "GLU variants improve Transformer".
 */
export class Mlp extends ChannelMixer {
  readonly dim: number;
  readonly config: Readonly<v.InferOutput<typeof MlpSchema>>;
  readonly up: Linear;
  readonly gate: Linear | null;
  readonly down: Linear;

  constructor(config: MlpConfig) {
    super();
    this.config = parseConfig('mlp', MlpSchema, config);
    const { dim, gated, bias, seed, outputDeviation } = this.config;
    const hidden = this.config.hidden ?? (gated ? 2 : 4) * dim;
    this.dim = dim;
    this.up = new Linear({ in: dim, out: hidden, bias, seed: deriveSeed(seed, 'up') });
    this.gate = gated ? new Linear({ in: dim, out: hidden, bias, seed: deriveSeed(seed, 'gate') }) : null;
    this.down = new Linear({ in: hidden, out: dim, bias, seed: deriveSeed(seed, 'down'), deviation: outputDeviation });
  }

  forward(x: tf.Tensor3D): tf.Tensor3D {
    return tf.tidy(() => {
      const { activation, gateScale } = this.config;
      const up = this.up.forward(x);
      if (!this.gate) return this.down.forward(activate(up, activation)) as tf.Tensor3D;
      const gate = this.gate.forward(x);
      const hidden = tf.mul(activate(gateScale === 1 ? gate : tf.mul(gate, gateScale), activation), up);
      return this.down.forward(hidden) as tf.Tensor3D;
    });
  }
}

function activate(x: tf.Tensor, activation: 'silu' | 'gelu' | 'gelu-tanh' | 'relu' | 'none'): tf.Tensor {
  if (activation === 'none') return x;
  if (activation === 'silu') return tf.mul(x, tf.sigmoid(x));
  if (activation === 'relu') return tf.relu(x);
  if (activation === 'gelu-tanh') {
    const bent = tf.mul(tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)), Math.sqrt(2 / Math.PI));
    return tf.mul(tf.mul(x, 0.5), tf.add(1, tf.tanh(bent)));
  }
  return tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));
}
