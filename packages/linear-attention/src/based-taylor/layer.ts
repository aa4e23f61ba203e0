import * as tf from '@tensorflow/tfjs-core';
import { advance, deriveSeed, divideHeads, Linear, parseConfig, positiveInteger, positiveNumber, SequenceMixer } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { patternEntries, readPattern, sourceDim } from '../linear-attention/layer-pattern.ts';
import { taylorFeatureDim } from '../linear-attention/taylor-features.ts';
import { taylorAttention } from './op.ts';

const Schema = v.strictObject({
  /** width of input and output */
  dim: positiveInteger,
  /** query heads */
  heads: positiveInteger,
  /** key and value heads, a divisor of heads; default: heads */
  keyHeads: v.optional(positiveInteger),
  /** channels of a query or key head before the expansion */
  featureDim: v.optional(positiveInteger, 16),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  /** keep each product of two channels once in the state */
  symmetric: v.optional(v.boolean(), true),
  epsilon: v.optional(positiveNumber, 1e-6),
  ...patternEntries,
  /** form of causal self-attention */
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
  seed: v.optional(v.number(), 0),
  /** standard deviation of the output projection at the start */
  outputDeviation: v.optional(v.number()),
});

/** Config of `BasedTaylor`: dim and heads; all else has a default. */
export type BasedTaylorConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'based-taylor';

/**
 * BASED's Taylor linear attention as a layer: projections without biases to query, key (featureDim channels per head) and value, the
 * op, and the output projection; no rotary positions, no output norm, no gate.
 *
 * The state of the causal-self pattern is `memory` [B, keyHeads, F, valueDim + 1], whatever the length; other patterns carry their
 * position alone.
 *
 * @see Arora et al. 2024, arXiv 2402.18668
 */
export class BasedTaylor extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly #keyHeads: number;
  readonly #valueDim: number;

  constructor(config: BasedTaylorConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, keyHeads = heads, featureDim, seed, pattern, outputDeviation: deviation } = this.config;
    divideHeads(MECHANISM, heads, keyHeads, 'config.keyHeads');
    const valueDim = this.config.valueDim ?? divideHeads(MECHANISM, dim, heads);
    const source = sourceDim(MECHANISM, this.config);
    this.dim = dim;
    this.pattern = pattern;
    this.#keyHeads = keyHeads;
    this.#valueDim = valueDim;
    this.query = new Linear({ in: dim, out: heads * featureDim, seed: deriveSeed(seed, 'query') });
    this.key = new Linear({ in: source, out: keyHeads * featureDim, seed: deriveSeed(seed, 'key') });
    this.value = new Linear({ in: source, out: keyHeads * valueDim, seed: deriveSeed(seed, 'value') });
    this.output = new Linear({ in: heads * valueDim, out: dim, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const { featureDim, symmetric } = this.config;
    return { memory: [batch, this.#keyHeads, taylorFeatureDim(featureDim, symmetric), this.#valueDim + 1] };
  }

  override mixingFlops(): number {
    const { heads, featureDim, symmetric } = this.config;
    return 4 * heads * taylorFeatureDim(featureDim, symmetric) * (this.#valueDim + 1);
  }

  mix(input: MixInput): MixerResult {
    const { x, state, lengths } = input;
    const { heads, featureDim, symmetric, epsilon, form, chunkSize } = this.config;
    const [batch, length] = x.shape;
    const causalSelf = this.pattern === 'causal-self';
    const { source, settings } = readPattern(input, this.pattern);
    const keys = source.shape[1];
    const result = taylorAttention(
      {
        query: tf.reshape(this.query.forward(x), [batch, length, heads, featureDim]),
        key: tf.reshape(this.key.forward(source), [batch, keys, this.#keyHeads, featureDim]),
        value: tf.reshape(this.value.forward(source), [batch, keys, this.#keyHeads, this.#valueDim]),
      },
      {
        epsilon,
        symmetric,
        chunkSize,
        ...settings,
        ...(causalSelf ? { form, state: { memory: state.memory! } } : {}),
      },
    );
    const output = this.output.forward(tf.reshape(result.output, [batch, length, heads * this.#valueDim])) as tf.Tensor3D;
    const position = advance(state.position, x, lengths);
    return { output, state: causalSelf ? { ...result.state, position } : { position } };
  }
}
