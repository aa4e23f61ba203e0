import type { Architecture } from './architecture.ts';

/** Numbers that differ between recurrent memory transformers around GPT-2. */
export interface RmtShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  /** learned positions, at least segment and memory twice */
  readonly positions: number;
  /** tokens of a segment, memory not counted, default 512 */
  readonly segmentLength?: number;
  /** memory vectors, default 10 */
  readonly memoryTokens?: number;
  /** gradients reach back over this many segments of a call, default all */
  readonly bpttDepth?: number;
}

/** The recurrent memory transformer: GPT-2 on segments, each with memory vectors before it, to read, and after it, to write. */
export const rmt: Architecture<RmtShape> = {
  id: 'rmt',
  title: 'Recurrent memory transformer',
  paper: 'Recurrent Memory Transformer, arXiv 2207.06881',
  config: ({ vocabSize, dim, depth, heads, positions, segmentLength = 512, memoryTokens = 10, bpttDepth }) => ({
    vocabSize,
    dim,
    depth,
    mixers: 'attention',
    definitions: {
      attention: { type: 'mha-mqa-gqa', heads, rotary: null, bias: true, outputBias: true },
      mlp: { type: 'mlp', gated: false, hidden: 4 * dim, activation: 'gelu-tanh', bias: true },
    },
    norm: { type: 'layer', epsilon: 1e-5 },
    positions: { type: 'learned', max: positions },
    segments: {
      type: 'recurrent-memory-transformer',
      segmentLength,
      memoryTokens,
      ...(bpttDepth === undefined ? {} : { bpttDepth }),
    },
  }),
  sizes: {
    // GPT-2 small, 124,439,808, and ten memory vectors
    'gpt2-small': { shape: { vocabSize: 50257, dim: 768, depth: 12, heads: 12, positions: 1024 }, parameters: 124_447_488 },
  },
};
