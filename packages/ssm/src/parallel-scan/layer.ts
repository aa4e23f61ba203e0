import { advance, deriveSeed, layerEntries, Linear, parseConfig, positiveInteger, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { parallelScan } from './parallel-scan.ts';

const Schema = v.strictObject({
  ...layerEntries,
  /** channels of the recurrence, default dim */
  innerDim: v.optional(positiveInteger),
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
});

/** Config of `GatedImpulseRecurrence`: dim; all else has a default. */
export type GatedImpulseRecurrenceConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'parallel-scan';

/**
 * The gated impulse linear recurrence, the smallest layer over a scan: `g = sigmoid(U x + b)`, `i = tanh(V x + c)`,
 * `h_t = g h_{t-1} + (1 - g) i`, and a projection out.
 *
 * Parameters with E = innerDim = D: 3 D E + 2 E + D. The state is `hidden` [B, E], whatever the length.
 *
 * @see Martin & Cundy 2018, arXiv 1709.04057
 */
export class GatedImpulseRecurrence extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly pattern = 'causal-self';
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly gate: Linear;
  readonly impulse: Linear;
  readonly output: Linear;
  readonly #innerDim: number;

  constructor(config: GatedImpulseRecurrenceConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, innerDim = dim, seed, outputDeviation: deviation } = this.config;
    this.dim = dim;
    this.#innerDim = innerDim;
    this.gate = new Linear({ in: dim, out: innerDim, bias: true, seed: deriveSeed(seed, 'gate') });
    this.impulse = new Linear({ in: dim, out: innerDim, bias: true, seed: deriveSeed(seed, 'impulse') });
    this.output = new Linear({ in: innerDim, out: dim, bias: true, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    return { hidden: [batch, this.#innerDim] };
  }

  override mixingFlops(): number {
    return 3 * this.#innerDim;
  }

  mix({ x, state, valid, lengths }: MixInput): MixerResult {
    const gate = this.gate.forward(x);
    const { output, state: next } = parallelScan(
      {
        decay: tf.sigmoid(gate),
        // 1 - sigmoid(x) without its cancellation
        input: tf.mul(tf.sigmoid(tf.neg(gate)), tf.tanh(this.impulse.forward(x))),
      },
      { form: this.config.form, state: { hidden: state.hidden! }, ...(valid ? { mask: valid } : {}) },
    );
    return {
      output: this.output.forward(output) as tf.Tensor3D,
      state: { hidden: next.hidden, position: advance(state.position, x, lengths) },
    };
  }
}
