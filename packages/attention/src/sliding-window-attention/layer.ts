import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, fail, naturalNumber, parseConfig, positiveInteger, softmaxAttention } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import { attentionEntries, AttentionLayer, tokenPositions } from '../attention-layer.ts';
import { alignedPositions } from '../kv-cache/kv-cache.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import type { Positions } from '../positional-encodings/rotary-angles.ts';
import { attendRollingCache, rollingAttention, rollingCacheShapes } from './decode.ts';

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
 * A layer of `keyValue: 'given'` attends over the keys and values of another layer with the same window and sinks, and keeps no cache.
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

  protected cacheShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const { window, sinks } = this.config;
    return rollingCacheShapes(batch, { window, sinks, heads: this.kvHeads, headDim: this.headDim, valueDim: this.valueHeadDim });
  }

  override mixingFlops(length: number): number {
    const { window, sinks } = this.config;
    return 2 * this.heads * (this.headDim + this.valueHeadDim) * Math.min(length, window + sinks);
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths } = input;
    const { window, sinks, positions, scale, softCap, alibi } = this.config;
    const rotary = this.config.rotary === undefined ? (alibi ? null : {}) : this.config.rotary;
    const queries = this.projectQueries(x);
    const source = this.keysAndValues(input);
    const owns = this.key !== null;
    const own = (result: MixerResult, key: tf.Tensor): MixerResult =>
      owns ? { ...result, keyValue: { key, value: source.value, state: source.state } } : result;
    const causal = this.pattern === 'causal-self';
    const place: Positions = causal ? tokenPositions({ x, state: source.state }) : { start: 0, length: x.shape[1] };
    const rotated = rotary
      ? rotaryEmbedding({ query: queries.query, key: owns ? source.key : queries.query, positions: place }, rotary)
      : null;
    // given keys are rotated already
    const key = rotated && owns ? rotated.key : source.key;
    const inputs = { ...queries, query: rotated?.query ?? queries.query, key, value: source.value };
    const advanced = { position: advance(state.position, x, lengths) };
    if (!causal) {
      const { output } = softmaxAttention(
        { ...inputs, ...(valid ? { keyPositions: alignedPositions(valid) } : {}) },
        { window, sinks, aligned: true, scale, softCap },
      );
      return own({ output: this.join(output, x), state: advanced }, key);
    }
    const near = rotary && positions === 'cache' && sinks > 0 ? tf.minimum(place as tf.Tensor, sinks + window - 1) : null;
    const sinkQuery = near && rotary ? rotaryEmbedding({ ...queries, key: queries.query, positions: near }, rotary).query : undefined;
    const options = { window, sinks, positions, valid, scale, softCap };
    if (!owns) return { output: this.join(attendRollingCache({ ...inputs, sinkQuery }, source.state, options), x), state: advanced };
    const result = rollingAttention({ ...inputs, sinkQuery }, state, { ...options, lengths });
    return own({ output: this.join(result.output, x), state: result.state }, key);
  }
}
