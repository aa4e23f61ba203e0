import type * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, fail, parseConfig, positiveInteger, softmaxAttention } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, SharedKeyValue, StateShapes } from '@seqloom/core';
import { attentionEntries, AttentionLayer, tokenPositions } from '../attention-layer.ts';
import { alignedPositions } from '../kv-cache/kv-cache.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import type { Positions } from '../positional-encodings/rotary-angles.ts';
import { attendCache, cachedAttention } from './decode.ts';

const Schema = v.strictObject({
  ...attentionEntries,
  pattern: v.optional(v.picklist(['causal-self', 'noncausal-self', 'causal-cross', 'noncausal-cross']), 'causal-self'),
  /** width of the context of a cross pattern; default dim */
  contextDim: v.optional(positiveInteger),
});

/** Config of `MultiHeadAttention`. */
export type MultiHeadAttentionConfig = v.InferInput<typeof Schema>;

/**
 * Softmax attention with query, key, value and output projections: `y = W_o (g * concat_h softmax(q_h k_g(h)ᵀ) v_g(h))`.
 *
 * All four patterns; a causal self layer carries its rotated keys and its values as state. A cross layer reads the whole context in
 * every call; the causal one lets the query at position p see context tokens 0 to p. A self layer of `keyValue: 'given'` attends with
 * its own queries over the keys and values of another layer, and keeps no cache.
 *
 * Source: Vaswani et al. 2017; GQA: Ainslie et al. 2023, arXiv 2305.13245.
 */
export class MultiHeadAttention extends AttentionLayer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly pattern: Pattern;

  constructor(config: MultiHeadAttentionConfig) {
    const parsed = parseConfig('mha-mqa-gqa', Schema, config);
    const cross = parsed.pattern.endsWith('cross');
    if (cross && parsed.keyValue === 'given')
      fail({
        mechanism: 'mha-mqa-gqa',
        argument: 'config.keyValue',
        wanted: "'own' for a cross pattern",
        given: "'given'",
        remedy: 'Layers share keys and values of their own sequence: use a self pattern.',
      });
    super('mha-mqa-gqa', parsed, cross ? (parsed.contextDim ?? parsed.dim) : parsed.dim);
    this.config = parsed;
    this.pattern = parsed.pattern;
  }

  protected cacheShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    return {
      key: [batch, 'length', this.kvHeads, this.headDim],
      value: [batch, 'length', this.kvHeads, this.valueHeadDim],
    };
  }

  override mixingFlops(length: number): number {
    return 2 * this.heads * (this.headDim + this.valueHeadDim) * length;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths } = input;
    const { scale, softCap, alibi } = this.config;
    const queries = this.projectQueries(x);
    const source = this.keysAndValues(input);
    const { query, key } = this.rotate(input, queries.query, source);
    const keyValue = { key, value: source.value, state: source.state };
    const inputs = { ...queries, query, key, value: source.value };
    if (this.pattern === 'causal-self') {
      const cache = { key: source.state.key!, value: source.state.value!, position: source.state.position };
      const options = { valid, lengths, scale, softCap };
      if (!this.key)
        return { output: this.join(attendCache(inputs, cache, options), x), state: { position: advance(state.position, x, lengths) } };
      const result = cachedAttention(inputs, cache, options);
      return { output: this.join(result.output, x), state: result.cache, keyValue };
    }
    const keyValid = input.context ? input.contextValid : valid;
    const causal = this.pattern === 'causal-cross';
    // where queries stand beside the context matters to these only
    const placed = input.context !== null && (causal || alibi);
    const { output } = softmaxAttention(
      {
        ...inputs,
        ...(keyValid ? { keyPositions: alignedPositions(keyValid) } : {}),
        ...(placed ? { queryPositions: tokenPositions(input) } : {}),
      },
      { causal, aligned: !placed, scale, softCap },
    );
    const shared = this.key && !input.context ? { keyValue } : {};
    return { output: this.join(output, x), state: { position: advance(state.position, x, lengths) }, ...shared };
  }

  /** Rotates queries, and keys of this layer's own, at their own positions. */
  private rotate(input: MixInput, query: tf.Tensor, { key, state }: SharedKeyValue): { query: tf.Tensor; key: tf.Tensor } {
    const { rotary, alibi } = this.config;
    const options = rotary === undefined ? (alibi || input.context ? null : {}) : rotary;
    if (!options) return { query, key };
    const length = query.shape[1]!;
    const fromStart = this.pattern === 'noncausal-self' || (this.pattern === 'causal-self' && state.key!.shape[1] === 0);
    // an empty cache says that the sequence starts here, so the angles can be tabled on the host
    const positions: Positions = fromStart ? { start: 0, length } : tokenPositions({ x: input.x, state });
    // given keys are rotated already
    if (!this.key) return { query: rotaryEmbedding({ query, key: query, positions }, options).query, key };
    if (!input.context) return rotaryEmbedding({ query, key, positions }, options);
    return {
      query: rotaryEmbedding({ query, key: query, positions }, options).query,
      key: rotaryEmbedding({ query: key, key, positions: { start: 0, length: key.shape[1]! } }, options).key,
    };
  }
}
