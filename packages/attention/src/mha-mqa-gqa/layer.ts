import type * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { advance, parseConfig, positiveInteger, softmaxAttention } from '@seqloom/core';
import type { MixerResult, MixInput, Pattern, StateShapes } from '@seqloom/core';
import { attentionEntries, AttentionLayer, tokenPositions } from '../attention-layer.ts';
import { alignedPositions } from '../kv-cache/kv-cache.ts';
import { rotaryEmbedding } from '../positional-encodings/parallel.ts';
import type { Positions } from '../positional-encodings/rotary-angles.ts';
import { cachedAttention } from './decode.ts';

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
 * every call; the causal one lets the query at position p see context tokens 0 to p.
 *
 * Source: Vaswani et al. 2017; GQA: Ainslie et al. 2023, arXiv 2305.13245.
 */
export class MultiHeadAttention extends AttentionLayer {
  readonly config: Readonly<v.InferOutput<typeof Schema>>;
  readonly pattern: Pattern;

  constructor(config: MultiHeadAttentionConfig) {
    const parsed = parseConfig('mha-mqa-gqa', Schema, config);
    super('mha-mqa-gqa', parsed, parsed.pattern.endsWith('cross') ? (parsed.contextDim ?? parsed.dim) : parsed.dim);
    this.config = parsed;
    this.pattern = parsed.pattern;
  }

  stateShapes(batch: number): StateShapes {
    if (this.pattern !== 'causal-self') return {};
    const shape = [batch, 'length', this.kvHeads, this.headDim] as const;
    return { key: shape, value: shape };
  }

  override mixingFlops(length: number): number {
    return 4 * this.heads * this.headDim * length;
  }

  mix(input: MixInput): MixerResult {
    const { x, state, valid, lengths } = input;
    const { scale, softCap, alibi } = this.config;
    const heads = this.project(input);
    const inputs = { ...heads, ...this.rotate(input, heads.query, heads.key) };
    if (this.pattern === 'causal-self') {
      const cache = { key: state.key!, value: state.value!, position: state.position };
      const result = cachedAttention(inputs, cache, { valid, lengths, scale, softCap });
      return { output: this.join(result.output, x), state: { ...result.cache } };
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
    return { output: this.join(output, x), state: { position: advance(state.position, x, lengths) } };
  }

  /** Rotates queries and keys at their own positions. */
  private rotate(input: MixInput, query: tf.Tensor, key: tf.Tensor): { query: tf.Tensor; key: tf.Tensor } {
    const { rotary, alibi } = this.config;
    const options = rotary === undefined ? (alibi || input.context ? null : {}) : rotary;
    if (!options) return { query, key };
    const length = query.shape[1]!;
    const fromStart = this.pattern === 'noncausal-self' || (this.pattern === 'causal-self' && input.state.key!.shape[1] === 0);
    // an empty cache says that the sequence starts here, so the angles can be tabled on the host
    const positions: Positions = fromStart ? { start: 0, length } : tokenPositions(input);
    if (!input.context) return rotaryEmbedding({ query, key, positions }, options);
    return {
      query: rotaryEmbedding({ query, key: query, positions }, options).query,
      key: rotaryEmbedding({ query: key, key, positions: { start: 0, length: key.shape[1]! } }, options).key,
    };
  }
}
