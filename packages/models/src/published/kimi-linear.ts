import type { Architecture } from './architecture.ts';

/** Numbers that differ between Kimi Linear models. */
export interface KimiLinearShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  /** layers of latent attention, counted from 0; all others are Kimi Delta Attention */
  readonly fullLayers: readonly number[];
  /** heads of both kinds of layers */
  readonly heads: number;
  /** heads of Kimi Delta Attention, default heads */
  readonly deltaHeads?: number;
  /** channels of a head of Kimi Delta Attention */
  readonly deltaHeadDim: number;
  /** default 4 */
  readonly kernelSize?: number;
  readonly latentDim: number;
  readonly contentDim: number;
  /** channels beside the content's, whose key all heads share; they are not rotated */
  readonly sharedKeyDim: number;
  readonly valueHeadDim: number;
  /** inner width of the feed-forward layers before the mixtures of experts */
  readonly hidden: number;
  /** number of those layers, default 1 */
  readonly denseLayers?: number;
  readonly experts: number;
  readonly topK: number;
  /** inner width of an expert */
  readonly expertHidden: number;
  /** inner width of what every token visits, default expertHidden; 0: none */
  readonly sharedHidden?: number;
  /** equal groups of experts, and those that a token may choose from; default 1 */
  readonly groups?: number;
  readonly groupTopK?: number;
  /** factor on the experts' weights, default 2.446 */
  readonly expertScale?: number;
  /** default sigmoid */
  readonly score?: 'sigmoid' | 'softmax';
  /** weights of a token's experts add up to 1, default true */
  readonly renormalise?: boolean;
  /** default 1e-5 */
  readonly epsilon?: number;
  /** default false */
  readonly tied?: boolean;
}

/** Three layers of Kimi Delta Attention to one of latent attention without positions, and mixtures of experts: order comes from the deltas. */
export const kimiLinear: Architecture<KimiLinearShape> = {
  id: 'kimi-linear',
  title: 'Kimi Linear',
  paper: 'Kimi Linear: An Expressive, Efficient Attention Architecture, arXiv 2510.26692',
  config: (shape) => {
    const { depth, heads, fullLayers, denseLayers = 1, epsilon = 1e-5 } = shape;
    const layers = Array.from({ length: depth }, (_, layer) => layer);
    return {
      vocabSize: shape.vocabSize,
      dim: shape.dim,
      depth,
      mixers: layers.map((layer) => (fullLayers.includes(layer) ? 'full' : 'delta')),
      channels: layers.map((layer) => (layer < denseLayers ? 'mlp' : 'experts')),
      definitions: {
        delta: {
          type: 'kimi-delta-attention',
          heads: shape.deltaHeads ?? heads,
          headDim: shape.deltaHeadDim,
          kernelSize: shape.kernelSize ?? 4,
          gateBias: false,
          epsilon,
        },
        full: {
          type: 'multi-head-latent-attention',
          heads,
          latentDim: shape.latentDim,
          contentDim: shape.contentDim,
          rotaryDim: shape.sharedKeyDim,
          valueHeadDim: shape.valueHeadDim,
          rotary: null,
          // that of the original's norms of latents, whatever that of the others
          normEpsilon: 1e-6,
        },
        mlp: { type: 'mlp', hidden: shape.hidden },
        experts: {
          type: 'moe-channel-mixers',
          experts: shape.experts,
          topK: shape.topK,
          hidden: shape.expertHidden,
          score: shape.score ?? 'sigmoid',
          selectionBias: true,
          groups: shape.groups ?? 1,
          groupTopK: shape.groupTopK ?? 1,
          renormalise: shape.renormalise ?? true,
          scale: shape.expertScale ?? 2.446,
          shared: shape.sharedHidden === 0 ? null : { hidden: shape.sharedHidden ?? shape.expertHidden },
        },
      },
      norm: { epsilon },
      tieEmbeddings: shape.tied ?? false,
    };
  },
  sizes: {
    '48b-a3b': {
      shape: {
        vocabSize: 163840,
        dim: 2304,
        depth: 27,
        fullLayers: [3, 7, 11, 15, 19, 23, 26],
        heads: 32,
        deltaHeadDim: 128,
        latentDim: 512,
        contentDim: 128,
        sharedKeyDim: 64,
        valueHeadDim: 128,
        hidden: 9216,
        experts: 256,
        topK: 8,
        expertHidden: 1024,
      },
      parameters: 49_122_681_728,
    },
  },
};
