import * as tf from '@tensorflow/tfjs-core';
import {
  advance,
  deriveSeed,
  divideHeads,
  fail,
  Linear,
  parseConfig,
  positiveInteger,
  positiveNumber,
  RmsNorm,
  SequenceMixer,
} from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import * as v from 'valibot';
import { EMPTY_LOG } from './efficient-keys.ts';
import { featureDimOf, isLearned, isSigned } from './feature-maps.ts';
import { patternEntries, readPattern, sourceDim } from './layer-pattern.ts';
import { LearnedFeatures } from './learned-features.ts';
import { linearAttention } from './op.ts';

const FeatureMapSchema = v.variant('name', [
  v.strictObject({ name: v.picklist(['elu1', 'relu', 'identity', 'silu', 'softmax', 'efficient']) }),
  v.strictObject({ name: v.picklist(['t2r', 'hadamard']), featureDim: positiveInteger }),
  v.strictObject({ name: v.literal('hedgehog'), c: v.optional(positiveNumber, 1) }),
  v.strictObject({ name: v.literal('dpfp'), nu: v.optional(positiveInteger, 1) }),
  v.strictObject({ name: v.literal('taylor2'), symmetric: v.optional(v.boolean(), false) }),
]);

const Schema = v.strictObject({
  /** width of input and output */
  dim: positiveInteger,
  /** query heads */
  heads: positiveInteger,
  /** key and value heads, a divisor of heads; default: heads */
  keyHeads: v.optional(positiveInteger),
  /** channels of a query or key head before the feature map; default: dim / heads */
  headDim: v.optional(positiveInteger),
  /** channels of a value head; default: dim / heads */
  valueDim: v.optional(positiveInteger),
  featureMap: v.optional(FeatureMapSchema, { name: 'elu1' }),
  /** one learned map for queries and keys */
  tiedFeatures: v.optional(v.boolean(), false),
  /** default: true where the feature map allows it */
  normalise: v.optional(v.boolean()),
  normaliseQuery: v.optional(v.boolean(), false),
  normaliseKey: v.optional(v.boolean(), false),
  epsilon: v.optional(positiveNumber, 1e-6),
  /** factor on phi(q); default as in the op */
  scale: v.optional(v.pipe(v.number(), v.finite())),
  /** learned RMS norm per head; default: true where outputs are not normalised */
  outputNorm: v.optional(v.boolean()),
  bias: v.optional(v.boolean(), false),
  ...patternEntries,
  /** form of causal self-attention */
  form: v.optional(v.picklist(['parallel', 'chunk', 'recurrent']), 'chunk'),
  chunkSize: v.optional(positiveInteger, 64),
  seed: v.optional(v.number(), 0),
  /** standard deviation of the output projection at the start */
  outputDeviation: v.optional(v.number()),
});

/** Config of `LinearAttention`: dim and heads; all else has a default. */
export type LinearAttentionConfig = v.InferInput<typeof Schema>;

const MECHANISM = 'linear-attention';

/**
 * Linear attention as a layer: projections to query, key and value, feature map, op, an RMS norm per head where outputs are not
 * normalised, and the output projection.
 *
 * The state of the causal-self pattern is `memory` [B, keyHeads, F, valueDim (+ 1 for the normaliser)], whatever the length; other
 * patterns carry their position alone.
 *
 * @see Katharopoulos et al. 2020, "Transformers are RNNs", arXiv 2006.16236
 */
export class LinearAttention extends SequenceMixer {
  readonly mechanism = MECHANISM;
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly dim: number;
  readonly pattern: Pattern;
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly queryFeatures: LearnedFeatures | null;
  readonly keyFeatures: LearnedFeatures | null;
  readonly norm: RmsNorm | null;
  readonly output: Linear;
  readonly #heads: { readonly query: number; readonly key: number };
  readonly #widths: { readonly key: number; readonly value: number; readonly features: number };
  readonly #normalise: boolean;

  constructor(config: LinearAttentionConfig) {
    super();
    this.config = parseConfig(MECHANISM, Schema, config);
    const { dim, heads, keyHeads = heads, featureMap, bias, seed, pattern } = this.config;
    divideHeads(MECHANISM, heads, keyHeads, 'config.keyHeads');
    const headDim = this.config.headDim ?? divideHeads(MECHANISM, dim, heads);
    const valueDim = this.config.valueDim ?? divideHeads(MECHANISM, dim, heads);
    this.#normalise = checkNormalise(this.config);
    const source = sourceDim(MECHANISM, this.config);
    checkEfficient(this.config);
    this.dim = dim;
    this.pattern = pattern;
    this.#heads = { query: heads, key: keyHeads };
    this.#widths = { key: headDim, value: valueDim, features: featureDimOf(featureMap, headDim) };
    const project = (name: string, from: number, to: number): Linear =>
      new Linear({ in: from, out: to, bias, seed: deriveSeed(seed, name) });
    this.query = project('query', dim, heads * headDim);
    this.key = project('key', source, keyHeads * headDim);
    this.value = project('value', source, keyHeads * valueDim);
    const learned = (name: string): LearnedFeatures | null =>
      isLearned(featureMap) ? new LearnedFeatures(featureMap, headDim, deriveSeed(seed, name)) : null;
    this.queryFeatures = learned('queryFeatures');
    this.keyFeatures = this.config.tiedFeatures ? this.queryFeatures : learned('keyFeatures');
    this.norm = (this.config.outputNorm ?? !this.#normalise) ? new RmsNorm({ dim: valueDim }) : null;
    const { outputDeviation: deviation } = this.config;
    this.output = new Linear({ in: heads * valueDim, out: dim, bias, seed: deriveSeed(seed, 'output'), deviation });
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const { features, value } = this.#widths;
    const heads = this.#heads.key;
    const memory = [batch, heads, features, value + (this.#normalise ? 1 : 0)];
    return this.config.featureMap.name === 'efficient' ? { memory, logNormaliser: [batch, heads, features] } : { memory };
  }

  override mixingFlops(): number {
    return 4 * this.#heads.query * this.#widths.features * (this.#widths.value + (this.#normalise ? 1 : 0));
  }

  mix(input: MixInput): MixerResult {
    const { x, state, lengths } = input;
    const { featureMap, epsilon, scale, normaliseQuery, normaliseKey, form, chunkSize } = this.config;
    const causalSelf = this.pattern === 'causal-self';
    const [batch, length] = x.shape;
    const { source, settings } = readPattern(input, this.pattern);
    const split = (rows: tf.Tensor, heads: number): tf.Tensor => {
      const [rowBatch, rowLength, width] = rows.shape as [number, number, number];
      return tf.reshape(rows, [rowBatch, rowLength, heads, width / heads]);
    };
    const learned = this.queryFeatures && this.keyFeatures && { query: this.queryFeatures.tensors(), key: this.keyFeatures.tensors() };
    const result = linearAttention(
      {
        query: split(this.query.forward(x), this.#heads.query),
        key: split(this.key.forward(source), this.#heads.key),
        value: split(this.value.forward(source), this.#heads.key),
      },
      {
        featureMap,
        normalise: this.#normalise,
        epsilon,
        normaliseQuery,
        normaliseKey,
        chunkSize,
        ...settings,
        ...(scale === undefined ? {} : { scale }),
        ...(learned ? { featureParameters: learned } : {}),
        ...(causalSelf ? { form, state: this.#opState(state) } : {}),
      },
    );
    const heads = this.norm ? this.norm.forward(result.output) : result.output;
    const output = this.output.forward(tf.reshape(heads, [batch, length, this.#heads.query * this.#widths.value]));
    const position = advance(state.position, x, lengths);
    return { output: output as tf.Tensor3D, state: causalSelf ? { ...result.state, position } : { position } };
  }

  // a new state is all zeros, but the log of an empty sum is not
  #opState(state: MixInput['state']): { memory: tf.Tensor; logNormaliser?: tf.Tensor } {
    const { memory, logNormaliser, position } = state;
    if (!logNormaliser) return { memory: memory! };
    const started = tf.greater(tf.reshape(position, [-1, 1, 1]), 0);
    return { memory: memory!, logNormaliser: tf.where(started, logNormaliser, tf.fill(logNormaliser.shape, EMPTY_LOG)) };
  }
}

type Resolved = v.InferOutput<typeof Schema>;

function checkNormalise(config: Resolved): boolean {
  const { featureMap, normaliseQuery, normaliseKey } = config;
  const allowed = !isSigned(featureMap) && featureMap.name !== 'efficient';
  const normalise = config.normalise ?? allowed;
  for (const [name, wanted] of Object.entries({ normalise, normaliseQuery, normaliseKey })) {
    if (wanted && !allowed) {
      fail({
        mechanism: MECHANISM,
        argument: `config.${name}`,
        wanted: `false for the feature map ${featureMap.name}`,
        given: 'true',
        remedy: 'Leave it out: signed sums cross zero, and efficient is normalised by itself.',
      });
    }
  }
  return normalise;
}

function checkEfficient({ pattern, featureMap, form }: Resolved): void {
  const refuse = (argument: string, wanted: string, given: string, remedy: string): never =>
    fail({ mechanism: MECHANISM, argument, wanted, given, remedy });
  if (featureMap.name !== 'efficient') return;
  if (pattern === 'causal-cross') refuse('config.pattern', 'another one for the efficient map', pattern, 'Use causal-self.');
  if (pattern === 'causal-self' && form === 'parallel') {
    refuse('config.form', 'chunk or recurrent for the causal efficient map', form, 'Its running normaliser is a recurrence.');
  }
}
