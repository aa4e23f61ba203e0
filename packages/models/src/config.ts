import { parseConfig, positiveInteger, positiveNumber } from '@seqloom/core';
import * as v from 'valibot';

const PatternSchema = v.union([
  v.string(),
  v.array(v.string()),
  v.strictObject({ every: positiveInteger, offset: v.number(), then: v.string(), else: v.string() }),
]);

const DefinitionSchema = v.looseObject({
  /** name of a component, e.g. `based-taylor` or `mlp` */
  type: v.string(),
});

const OverrideSchema = v.strictObject({
  /** 0-based layer indices, a range `a-b`, or all layers of one definition */
  at: v.union([v.array(v.number()), v.string(), v.strictObject({ mixer: v.string() }), v.strictObject({ channel: v.string() })]),
  /** keys to set in the mixer's config */
  mixer: v.optional(v.record(v.string(), v.unknown())),
  /** keys to set in the channel mixer's config */
  channel: v.optional(v.record(v.string(), v.unknown())),
  /** allows `type` to change; the keys then are the whole config */
  replace: v.optional(v.boolean(), false),
});

const HybridSchema = v.strictObject({
  /** ids that the model knows */
  vocabSize: positiveInteger,
  /** width of the residual stream */
  dim: positiveInteger,
  /** number of layers; default: as many as the pattern yields */
  depth: v.optional(positiveInteger),
  /** sequence mixer of each layer, by the names of `definitions` */
  mixers: PatternSchema,
  /** channel mixer of each layer; `none` is built in */
  channels: v.optional(PatternSchema, 'mlp'),
  /** component configs by name; `dim` and `seed` are filled in */
  definitions: v.record(v.string(), DefinitionSchema),
  overrides: v.optional(v.array(OverrideSchema), []),
  /** the head uses the embedding's table */
  tieEmbeddings: v.optional(v.boolean(), true),
  /** epsilon of every block norm */
  normEpsilon: v.optional(positiveNumber, 1e-5),
  /** factor on the logits */
  logitScale: v.optional(positiveNumber, 1),
  /** c tanh(logit / c) */
  logitSoftCap: v.optional(positiveNumber),
  /** standard deviation of embedding and head */
  initialDeviation: v.optional(positiveNumber, 0.02),
  seed: v.optional(v.number(), 0),
});

/** A hybrid language model as plain JSON. */
export type HybridConfig = v.InferInput<typeof HybridSchema>;
/** The same with every default filled in. */
export type ResolvedHybridConfig = Readonly<v.InferOutput<typeof HybridSchema>>;

/** Checks a hybrid config and fills in its defaults. */
export function resolveHybridConfig(config: unknown): ResolvedHybridConfig {
  return parseConfig('hybrid-model', HybridSchema, config);
}
