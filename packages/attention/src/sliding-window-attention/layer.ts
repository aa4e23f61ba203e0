import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, fail, naturalNumber, parseConfig, positiveInteger, softmaxAttention } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import { attentionEntries, AttentionLayer, tokenPositions } from '../attention-layer.ts';
import { alignedPositions } from '../kv-cache/kv-cache.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import { rollingAttention, rollingCacheShapes } from './decode.ts';

const Schema = v.strictObject({
  ...attentionEntries,
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self']), 'causal-self'),
  /** W, keys that a query sees, itself included; without causality W - 1 on either side */
  window: positiveInteger,
  /** S, first tokens that stay visible for ever */
  sinks: v.optional(naturalNumber, 0),
  /** where sinks stand: at their true distance, or within the cache, at most S + W - 1 away (StreamingLLM) */
  positions: v.optional(v.picklist(['absolute', 'cache']), 'absolute'),
});

/** Config of `SlidingWindowAttention`. */
export type SlidingWindowAttentionConfig = v.InferInput<typeof Schema>;

/**
 * Softmax attention to the last W tokens and to the first S: time linear in T, state of S + W - 1 keys and values for ever.
 *
 * Source: Xiao et al. 2023, arXiv 2309.17453; windows: Beltagy et al. 2020, arXiv 2004.05150.
 */
export class SlidingWindowAttention extends AttentionLayer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly pattern: Pattern;

  constructor(config: SlidingWindowAttentionConfig) {
    const mechanism = 'sliding-window-attention';
    const parsed = parseConfig(mechanism, Schema, config);
    if (parsed.positions === 'cache' && parsed.pattern !== 'causal-self')
      fail({
        mechanism,
        argument: 'config.positions',
        wanted: "'absolute' without causality",
        given: "'cache'",
        remedy: 'Positions within a cache need a decoder: use the causal-self pattern.',
      });
    super(mechanism, parsed, parsed.dim);
    this.config = parsed;
    this.pattern = parsed.pattern;
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const { window, sinks } = this.config;
    return rollingCacheShapes(batch, { window, sinks, heads: this.kvHeads, headDim: this.headDim });
  }

  override mixingFlops(length: number): number {
    const { window, sinks } = this.config;
    return 4 * this.heads * this.headDim * Math.min(length, window + sinks);
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths } = input;
    const { window, sinks, positions, scale, softCap, alibi } = this.config;
    const rotary = this.config.rotary === undefined ? (alibi ? null : {}) : this.config.rotary;
    const heads = this.project(input);
    if (this.pattern === 'noncausal-self') {
      const place = { start: 0, length: x.shape[1] };
      const { output } = softmaxAttention(
        {
          ...heads,
          ...(rotary ? rotaryEmbedding({ ...heads, positions: place }, rotary) : {}),
          ...(valid ? { keyPositions: alignedPositions(valid) } : {}),
        },
        { window, sinks, aligned: true, scale, softCap },
      );
      return { output: this.join(output, x), state: { position: advance(state.position, x, lengths) } };
    }
    const place = rotary ? tokenPositions(input) : null;
    const rotated = rotary && place ? rotaryEmbedding({ ...heads, positions: place }, rotary) : heads;
    const near = rotary && place && positions === 'cache' && sinks > 0 ? tf.minimum(place, sinks + window - 1) : null;
    const sinkQuery = near && rotary ? rotaryEmbedding({ ...heads, key: heads.query, positions: near }, rotary).query : undefined;
    const options = { window, sinks, positions, valid, lengths, scale, softCap };
    const result = rollingAttention({ ...heads, ...rotated, sinkQuery }, state, options);
    return { output: this.join(result.output, x), state: result.state };
  }
}
