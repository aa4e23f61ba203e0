import type { Architecture } from './architecture.ts';

/** Numbers that differ between Memformer decoders. */
export interface MemformerShape {
  readonly vocabSize: number;
  readonly dim: number;
  /** transformer layers, each of attention, a read of the memory and a feed-forward layer */
  readonly depth: number;
  readonly heads: number;
  readonly slots: number;
  /** tokens of a segment, default 128 */
  readonly segmentLength?: number;
  /** as in the paper (default), or as in the reference code */
  readonly writer?: 'normalised' | 'gated';
}

/**
 * Memformer as a decoder alone: attention within a segment, reads of one memory in every layer, and a write of each segment's last outputs.
 *
 * Positions are rotary, where the original has learned biases by distance.
 */
export const memformer: Architecture<MemformerShape> = {
  id: 'memformer',
  title: 'Memformer',
  paper: 'Memformer: A Memory-Augmented Transformer for Sequence Modeling, arXiv 2010.06891',
  config: ({ vocabSize, dim, depth, heads, slots, segmentLength = 128, writer = 'normalised' }) => ({
    vocabSize,
    dim,
    // a block each for attention and for the read, with the feed-forward layer
    depth: 2 * depth,
    mixers: 'attention, memory',
    channels: 'none, mlp',
    definitions: {
      attention: { type: 'mha-mqa-gqa', heads },
      memory: { type: 'mha-mqa-gqa', heads, pattern: 'noncausal-cross' },
      mlp: { type: 'mlp', gated: false, hidden: 4 * dim, activation: 'gelu', bias: true },
    },
    norm: { type: 'layer' },
    segments: { type: 'memformer', heads, slots, segmentLength, writer },
  }),
  sizes: {
    // widths as remembered of the paper's WikiText-103 decoder, which stood beside an encoder of four layers; the count is by formula:
    // 16 dim^2 + 11 dim per layer, 4 dim^2 + 3 dim of the writer and its slots
    'wikitext-103': {
      shape: { vocabSize: 267_735, dim: 512, depth: 16, heads: 8, slots: 128 },
      parameters: 205_395_968,
    },
  },
};
