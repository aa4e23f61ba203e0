import * as v from 'valibot';
import { parseConfig, positiveInteger } from '@seqloom/core';
import type { MixerResult, MixInput, StateShapes } from '@seqloom/core';
import { headEntries, ProjectedHeads } from '../projected-heads.ts';
import { card } from './card.ts';
import { appendMobaTokens } from './decode.ts';
import { cachedMobaAttention, mobaAttention } from './moba.ts';
import type { MobaState } from './moba.ts';

const Schema = v.strictObject({
  ...headEntries,
  /** tokens per block */
  blockSize: v.optional(positiveInteger, 512),
  /** blocks that a query reads, its own included */
  topK: v.optional(positiveInteger, 3),
});

/** Config of `MobaAttention`: dim and heads; all else has a default. */
export type MobaAttentionConfig = v.InferInput<typeof Schema>;

/**
 * Mixture of block attention as a layer: projections without biases, rotary positions, the op, and the output projection; parameters
 * dim (2 H + 2 G) headDim, none of them for the gate, so that a checkpoint of full attention fits.
 *
 * The state is `key` and `value` [B, length, G, headDim], rotated keys, and `blockKey`, the mean key of every complete block.
 *
 * @see Lu et al. 2025, arXiv 2502.13189
 */
export class MobaAttention extends ProjectedHeads {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;

  constructor(config: MobaAttentionConfig) {
    const parsed = parseConfig(card.id, Schema, config);
    super(card.id, parsed);
    this.config = parsed;
  }

  stateShapes(batch: number): StateShapes {
    const shape = [batch, 'length', this.kvHeads, this.headDim] as const;
    // blockKey grows by one for every blockSize tokens
    return { key: shape, value: shape, blockKey: shape };
  }

  override stateBytes(batch: number, length: number): number {
    return batch * card.stateBytes(length, { kvHeads: this.kvHeads, headDim: this.headDim, blockSize: this.config.blockSize });
  }

  override mixingFlops(length: number): number {
    const { blockSize, topK } = this.config;
    return 2 * this.heads * this.headDim * (2 * Math.min(length, topK * blockSize) + Math.floor(length / blockSize));
  }

  mix(input: MixInput): MixerResult {
    const { state, lengths } = input;
    const { blockSize, topK } = this.config;
    const start = state.key!.shape[1] === 0;
    const heads = this.rotate(this.project(input), input, start);
    const before = state as unknown as MobaState;
    if (!start) {
      const { output, state: after } = cachedMobaAttention(heads, before, { blockSize, topK, lengths });
      return { output: this.join(output), state: { ...after } };
    }
    const { output } = mobaAttention(heads, { blockSize, topK });
    return { output: this.join(output), state: { ...appendMobaTokens(before, heads, { blockSize, lengths }) } };
  }
}
