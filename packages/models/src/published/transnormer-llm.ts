import type { Architecture } from './architecture.ts';

/** Numbers that differ between TransNormerLLM models. */
export interface TransnormerShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  /** inner width of the gated linear units, `glu_dim` of a release's config.json */
  readonly hidden: number;
  /** layers with learned relative positions, default the first */
  readonly positioned?: readonly number[];
}

/** TransNormerLLM: lightning attention with a linear gate in all layers, gated linear units without activation, norms without weights. */
export const transnormerLlm: Architecture<TransnormerShape> = {
  id: 'transnormer-llm',
  title: 'TransNormerLLM',
  paper:
    'TransNormerLLM: A Faster and Better Large Language Model with Improved TransNormer, arXiv 2307.14995; Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention, arXiv 2405.17381',
  config: ({ vocabSize, dim, depth, heads, hidden, positioned = [0] }) => ({
    vocabSize,
    dim,
    depth,
    mixers: 'lightning',
    channels: 'unit',
    definitions: {
      lightning: { type: 'lightning-attention', variant: 'transnormer', heads, layer: '$layer', layers: '$layers' },
      unit: { type: 'mlp', hidden, activation: 'none' },
    },
    overrides: positioned.length > 0 ? [{ at: [...positioned], mixer: { relativePositions: true } }] : [],
    norm: { affine: false, epsilon: 1e-6 },
    embeddingScale: 'sqrt',
    initialDeviation: dim ** -0.5,
    tieEmbeddings: false,
  }),
  // the papers do not say how wide the gated linear units of their sizes are, so no count could be checked
  sizes: {},
};
