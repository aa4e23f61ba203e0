import * as tf from '@tensorflow/tfjs-core';
import { valueAndGradients } from '@seqloom/core';
import { squaredNorm } from './clip.ts';
import type { ParameterRule } from './groups.ts';

/**
 * Adds up losses and gradients over micro-batches, so that k batches of B rows give what one batch of k B rows gives.
 *
 * Sums of token losses go in; dividing by the number of tokens that counted comes last, over all micro-batches at once.
 */
export class GradientSum {
  /** gradients of the summed loss by parameter name */
  readonly gradients = new Map<string, tf.Tensor>();
  /** labels that counted */
  tokens = 0;
  private loss: tf.Tensor | null = null;
  private readonly rules: readonly ParameterRule[];

  constructor(rules: readonly ParameterRule[]) {
    this.rules = rules;
  }

  /**
   * Runs one micro-batch forward and backward.
   *
   * @param lossSum makes the summed loss, a scalar; it runs inside a tidy
   * @param tokens labels that count in it
   */
  add(lossSum: () => tf.Scalar, tokens: number): void {
    const variables = this.rules.map(({ parameter }) => parameter.variable);
    const { value, gradients } = valueAndGradients(lossSum, variables);
    for (const [place, { name }] of this.rules.entries()) {
      const gradient = gradients[place];
      if (!gradient) continue;
      const held = this.gradients.get(name);
      this.gradients.set(name, held ? tf.add(held, gradient) : gradient);
      if (held) tf.dispose([held, gradient]);
    }
    const before = this.loss;
    this.loss = before ? tf.add(before, value) : value;
    if (before) tf.dispose([before, value]);
    this.tokens += tokens;
  }

  /** Mean loss in nats per token and norm of the mean gradient; the only read-back of a step. */
  async measure(): Promise<{ readonly loss: number; readonly norm: number }> {
    const both = tf.tidy(() => {
      const norm = squaredNorm(this.gradients.values());
      return tf.concat1d([tf.reshape(this.loss ?? tf.scalar(0), [1]) as tf.Tensor1D, tf.reshape(norm, [1]) as tf.Tensor1D]);
    });
    try {
      const [loss, squared] = (await both.data()) as Float32Array;
      const count = Math.max(1, this.tokens);
      return { loss: loss! / count, norm: Math.sqrt(squared!) / count };
    } finally {
      both.dispose();
    }
  }

  /** Frees everything; the sum starts anew. */
  reset(): void {
    tf.dispose([...this.gradients.values()]);
    this.loss?.dispose();
    this.gradients.clear();
    this.loss = null;
    this.tokens = 0;
  }
}
