import { naturalNumber, parseConfig, positiveInteger, positiveNumber } from '@seqloom/core';
import * as v from 'valibot';

const PatternSchema = v.union([
  v.string(),
  v.array(v.string()),
  v.strictObject({ every: positiveInteger, offset: naturalNumber, then: v.string(), else: v.string() }),
]);

const DefinitionSchema = v.looseObject({
  /** name of a component, e.g. `based-taylor` or `mlp`, or `parallel` */
  type: v.string(),
});

/** Norms of blocks and branches, and the last one. */
export const NormSchema = v.strictObject({
  /** root mean square, or mean and variance */
  type: v.optional(v.picklist(['rms', 'layer']), 'rms'),
  epsilon: v.optional(positiveNumber, 1e-5),
  /** with a learned factor (and, for layer norms, a learned shift) */
  affine: v.optional(v.boolean(), true),
  /** the learned factor is 1 + weight, as in Gemma and Qwen3-Next */
  zeroCentered: v.optional(v.boolean(), false),
});

const ResidualSchema = v.strictObject({
  /** where the norms stand, see `ResidualStyle` */
  style: v.optional(v.picklist(['pre', 'post', 'sandwich', 'normalised', 'parallel', 'none']), 'pre'),
  /** factors on what is carried past mixer and channel mixer */
  mixerCarry: v.optional(v.number(), 1),
  channelCarry: v.optional(v.number(), 1),
  /** factors on what mixer and channel mixer add */
  mixerScale: v.optional(v.number(), 1),
  channelScale: v.optional(v.number(), 1),
  /** a learned factor per channel on what is carried */
  learned: v.optional(v.boolean(), false),
});

const OverrideSchema = v.strictObject({
  /** 0-based layer indices, a range `a-b`, or all layers of one definition */
  at: v.union([v.array(v.number()), v.string(), v.strictObject({ mixer: v.string() }), v.strictObject({ channel: v.string() })]),
  /** keys to set in the mixer's config */
  mixer: v.optional(v.record(v.string(), v.unknown())),
  /** keys to set in the channel mixer's config */
  channel: v.optional(v.record(v.string(), v.unknown())),
  /** keys to set in the residual's config */
  residual: v.optional(v.record(v.string(), v.unknown())),
  /** allows `type` to change; the keys then are the whole config */
  replace: v.optional(v.boolean(), false),
});

const ShareSchema = v.strictObject({
  /** groups of layers, the first of which makes the keys and values that the others attend to */
  keyValue: v.optional(v.array(v.pipe(v.array(naturalNumber), v.minLength(2))), []),
  /** groups of layers with one set of weights; states stay apart */
  weights: v.optional(
    v.array(
      v.strictObject({
        layers: v.pipe(v.array(naturalNumber), v.minLength(2)),
        part: v.optional(v.picklist(['mixer', 'channel', 'all']), 'all'),
      }),
    ),
    [],
  ),
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
  /** component configs by name; `dim` and `seed` are filled in, `$layer` and `$layers` stand for a layer's index and the depth */
  definitions: v.record(v.string(), DefinitionSchema),
  overrides: v.optional(v.array(OverrideSchema), []),
  /** what layers share */
  share: v.optional(ShareSchema, {}),
  norm: v.optional(NormSchema, {}),
  /** the norm after the last layer */
  finalNorm: v.optional(v.boolean(), true),
  residual: v.optional(ResidualSchema, {}),
  /** learned vectors before the first token of every sequence, which all layers see (Hymba) */
  metaTokens: v.optional(v.strictObject({ count: positiveInteger, deviation: v.optional(positiveNumber, 0.02) })),
  /** a learned vector per position, added to the embeddings (GPT-2); layers bring their own rotations */
  positions: v.optional(v.strictObject({ type: v.literal('learned'), max: positiveInteger, deviation: v.optional(positiveNumber, 0.02) })),
  /** segment recurrence around the whole stack: a component of `segments`, such as `recurrent-memory-transformer`, with its config */
  segments: v.optional(DefinitionSchema),
  /** the head uses the embedding's table */
  tieEmbeddings: v.optional(v.boolean(), true),
  /** learned vector on an untied head */
  headBias: v.optional(v.boolean(), false),
  /** factor on the embeddings; `sqrt`: the square root of dim */
  embeddingScale: v.optional(v.union([positiveNumber, v.literal('sqrt')]), 1),
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

const BranchSchema = v.strictObject({
  /** config of the branch's mixer */
  mixer: DefinitionSchema,
  /** norm of the branch's output: true: like the stack's */
  norm: v.optional(v.union([v.boolean(), NormSchema]), false),
  inputScale: v.optional(v.number(), 1),
  outputScale: v.optional(v.number(), 1),
});

const ParallelSchema = v.strictObject({
  type: v.literal('parallel'),
  branches: v.pipe(v.array(BranchSchema), v.minLength(1)),
  /** default sum */
  combine: v.optional(v.picklist(['sum', 'mean', 'concat', 'gated']), 'sum'),
  /** a projection after the join; default: when the joined width is not dim */
  output: v.optional(v.boolean()),
  /** standard deviation of that projection at the start */
  outputDeviation: v.optional(positiveNumber),
});

/** Mixers side by side, as a definition. */
export type ParallelDefinition = v.InferOutput<typeof ParallelSchema>;

/** Checks a hybrid config and fills in its defaults. */
export function resolveHybridConfig(config: unknown): ResolvedHybridConfig {
  return parseConfig('hybrid-model', HybridSchema, config);
}

/** Checks a residual's config, as an override leaves it. */
export function checkResidual(residual: unknown, argument: string): ResolvedHybridConfig['residual'] {
  return parseConfig(`hybrid-model, ${argument}`, ResidualSchema, residual);
}

/** Checks a definition of type `parallel`; its branches' mixers are checked when they are built. */
export function parseParallel(definition: unknown): ParallelDefinition {
  return parseConfig('parallel', ParallelSchema, definition);
}
