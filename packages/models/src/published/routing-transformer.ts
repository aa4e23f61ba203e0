import type { Architecture } from './architecture.ts';

/** Numbers that differ between routing transformers. */
export interface RoutingShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  /** heads that see a window in place of their cluster, default half */
  readonly localHeads?: number;
  /** clusters per routed head */
  readonly clusters: number;
  /** tokens of its cluster that a query reads */
  readonly window: number;
  /** tokens that local heads see, default 256 */
  readonly localWindow?: number;
  /** the last layers that route, the others having local heads alone; default all */
  readonly routedLayers?: number;
}

/** The routing transformer: heads that see a window beside heads that see their cluster, with layer norms. */
export const routingTransformer: Architecture<RoutingShape> = {
  id: 'routing-transformer',
  title: 'Routing transformer',
  paper: 'Efficient Content-Based Sparse Attention with Routing Transformers, arXiv 2003.05997',
  config: ({ vocabSize, dim, depth, heads, localHeads, clusters, window, localWindow = 256, routedLayers = depth }) => ({
    vocabSize,
    dim,
    depth,
    mixers: Array.from({ length: depth }, (_, index) => (index < depth - routedLayers ? 'local' : 'routed')),
    definitions: {
      local: { type: 'sliding-window-attention', heads, window: localWindow },
      routed: { type: 'routing-transformer', heads, localHeads: localHeads ?? heads >> 1, clusters, window, localWindow },
      mlp: { type: 'mlp', gated: false, hidden: 4 * dim, activation: 'gelu', bias: true },
    },
    norm: { type: 'layer' },
    tieEmbeddings: false,
  }),
  sizes: {
    // widths as remembered of the paper's WikiText-103 model of ten layers and 4096 tokens, the words of that corpus; the count is by formula:
    // 3.5 dim^2 of attention (routed keys are queries), centroids, 8 dim^2 + 5 dim of feed-forward and 4 dim of norms per layer
    'wikitext-103': {
      shape: { vocabSize: 267_735, dim: 1024, depth: 10, heads: 16, clusters: 16, window: 256 },
      parameters: 669_083_648,
    },
  },
};
