import * as v from 'valibot';
import { fail, parseConfig, positiveInteger } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { headEntries, ProjectedHeads } from '../projected-heads.ts';
import { card } from './card.ts';
import { appendLandmarkTokens } from './decode.ts';
import { cachedLandmarkAttention, landmarkAttention } from './landmark-attention.ts';
import type { LandmarkState } from './landmark-attention.ts';

const Schema = v.strictObject({
  ...headEntries,
  /** tokens per block, its landmark (the last one) included */
  blockLength: v.optional(v.pipe(positiveInteger, v.minValue(2, 'at least 2')), 64),
  /** earlier blocks that a query head retrieves outside training; null: all */
  retrieved: v.optional(v.nullable(positiveInteger), null),
  /** where retrieved blocks stand; stingy positions never exceed (retrieved + 2) blockLength */
  positions: v.optional(v.picklist(['absolute', 'stingy']), 'absolute'),
});

/** Config of `LandmarkAttention`: dim and heads; all else has a default. */
export type LandmarkAttentionConfig = v.InferInput<typeof Schema>;

/**
 * Landmark attention as a layer: projections without biases, the op with rotary positions in it, and the output projection; parameters
 * dim (2 H + 2 G) headDim. The landmark itself is a token of the vocabulary: see `insertLandmarks`.
 *
 * With `training` every query attends to all earlier blocks at their true positions, as in the paper; otherwise to `retrieved` ones.
 * The state is `key` and `value` [B, length, G, headDim], keys turned by their places in their blocks.
 *
 * @see Mohtashami and Jaggi 2023, arXiv 2305.16300
 */
export class LandmarkAttention extends ProjectedHeads {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;

  constructor(config: LandmarkAttentionConfig) {
    const parsed = parseConfig(card.id, Schema, config);
    if (parsed.positions === 'stingy' && (parsed.retrieved === null || parsed.rotaryBase === null))
      fail({
        mechanism: card.id,
        argument: 'config.positions',
        wanted: "'absolute' without retrieval or rotary positions",
        given: "'stingy'",
        remedy: 'Set retrieved and rotaryBase, or use absolute positions.',
      });
    super(card.id, parsed);
    this.config = parsed;
  }

  stateShapes(batch: number): StateShapes {
    const shape = [batch, 'length', this.kvHeads, this.headDim] as const;
    return { key: shape, value: shape };
  }

  override mixingFlops(length: number): number {
    const { blockLength, retrieved } = this.config;
    const tokens = retrieved === null ? length : Math.min(length, (retrieved + 1) * blockLength);
    return 2 * this.heads * this.headDim * (2 * tokens + Math.floor(length / blockLength));
  }

  mix(input: MixInput): MixerResult {
    const { state, lengths, training } = input;
    const { blockLength, retrieved, rotaryBase, positions } = this.config;
    const options = { blockLength, rotaryBase, ...(training ? {} : { retrieved, positions }) };
    const heads = this.project(input);
    const before = state as unknown as LandmarkState;
    if (state.key!.shape[1] !== 0) {
      const { output, state: after } = cachedLandmarkAttention(heads, before, { ...options, lengths });
      return { output: this.join(output), state: { ...after } };
    }
    const { output } = landmarkAttention(heads, options);
    return { output: this.join(output), state: { ...appendLandmarkTokens(before, heads, { blockLength, rotaryBase, lengths }) } };
  }
}
