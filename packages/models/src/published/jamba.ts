import type { Architecture } from './architecture.ts';

/** Numbers that differ between models of the Jamba form. */
export interface JambaShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** inner width of feed-forward layers and experts */
  readonly hidden: number;
  readonly experts: number;
  readonly topK: number;
  /** layers from one with attention to the next, and where the first is; default 8 and 4 */
  readonly attentionEvery?: number;
  readonly attentionOffset?: number;
}

/** Jamba: one layer of attention without positions to seven of Mamba, and a mixture of experts in each second layer. */
export const jamba: Architecture<JambaShape> = {
  id: 'jamba',
  title: 'Jamba',
  paper: 'Jamba: A Hybrid Transformer-Mamba Language Model, arXiv 2403.19887',
  config: ({ vocabSize, dim, depth, heads, kvHeads, hidden, experts, topK, attentionEvery, attentionOffset }) => ({
    vocabSize,
    dim,
    depth,
    mixers: { every: attentionEvery ?? 8, offset: attentionOffset ?? 4, then: 'attention', else: 'mamba' },
    channels: { every: 2, offset: 1, then: 'experts', else: 'mlp' },
    definitions: {
      mamba: { type: 'mamba-s6', selectionNorm: true, epsilon: 1e-6 },
      attention: { type: 'mha-mqa-gqa', heads, kvHeads, rotary: null },
      mlp: { type: 'mlp', hidden },
      experts: { type: 'moe-channel-mixers', experts, topK, hidden, renormalise: false, auxiliary: { loadBalance: 0.001 } },
    },
    norm: { epsilon: 1e-6 },
    tieEmbeddings: false,
  }),
  sizes: {
    'v0.1': {
      shape: { vocabSize: 65536, dim: 4096, depth: 32, heads: 32, kvHeads: 8, hidden: 14336, experts: 16, topK: 2 },
      parameters: 51_570_323_328,
    },
  },
};
