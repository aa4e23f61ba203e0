import type { Architecture } from './architecture.ts';

/** Numbers that differ between models of the MiniMax form. */
export interface MinimaxShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  /** layers from one with softmax attention to the next, the last of each being it; default 8 */
  readonly fullEvery?: number;
  readonly heads: number;
  /** of the softmax layers */
  readonly kvHeads: number;
  readonly headDim: number;
  /** channels of a head that are rotated, default half */
  readonly rotaryDim?: number;
  /** default 1e7 */
  readonly rotaryBase?: number;
  readonly experts: number;
  readonly topK: number;
  readonly expertHidden: number;
}

/**
 * MiniMax-Text-01 and MiniMax-M1: seven layers of lightning attention to one of softmax attention, a mixture of experts in each, and
 * residuals that carry what was normalised, times `(2 depth)^(1/4)`.
 */
export const minimaxText01M1: Architecture<MinimaxShape> = {
  id: 'minimax-text-01-m1',
  title: 'MiniMax-Text-01 and MiniMax-M1',
  paper: 'MiniMax-01: Scaling Foundation Models with Lightning Attention, arXiv 2501.08313',
  config: (shape) => {
    const every = shape.fullEvery ?? 8;
    const carry = (2 * shape.depth) ** 0.25;
    return {
      vocabSize: shape.vocabSize,
      dim: shape.dim,
      depth: shape.depth,
      mixers: { every, offset: every - 1, then: 'attention', else: 'lightning' },
      channels: 'experts',
      definitions: {
        lightning: { type: 'lightning-attention', heads: shape.heads, headDim: shape.headDim, layer: '$layer', layers: '$layers' },
        attention: {
          type: 'mha-mqa-gqa',
          heads: shape.heads,
          kvHeads: shape.kvHeads,
          headDim: shape.headDim,
          rotary: { dims: shape.rotaryDim ?? shape.headDim / 2, base: shape.rotaryBase ?? 1e7 },
        },
        experts: {
          type: 'moe-channel-mixers',
          experts: shape.experts,
          topK: shape.topK,
          hidden: shape.expertHidden,
          auxiliary: { loadBalance: 0.001 },
        },
      },
      norm: { epsilon: 1e-5 },
      residual: { style: 'normalised', mixerCarry: carry, channelCarry: carry },
      tieEmbeddings: false,
    };
  },
  sizes: {
    '456b-a46b': {
      shape: {
        vocabSize: 200064,
        dim: 6144,
        depth: 80,
        heads: 64,
        kvHeads: 8,
        headDim: 128,
        experts: 32,
        topK: 2,
        expertHidden: 9216,
      },
      parameters: 456_089_655_296,
    },
  },
};
