import type { Architecture } from './architecture.ts';

/** Numbers that differ between Hymba models. */
export interface HymbaShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** width of query and key heads, default dim / heads */
  readonly headDim?: number;
  /** channels of either branch, default 2 dim; value heads are innerDim / heads wide */
  readonly innerDim?: number;
  /** inner width of the feed-forward layers */
  readonly hidden: number;
  readonly metaTokens: number;
  /** recent tokens that a query of a windowed layer sees, itself included, beside the meta tokens */
  readonly window: number;
  /** layers that see all tokens */
  readonly globalLayers: readonly number[];
  /** groups of layers with one set of keys and values, which the first makes */
  readonly keyValueGroups: readonly (readonly number[])[];
  /** default 16 */
  readonly stateDim?: number;
  /** default 4 */
  readonly kernelSize?: number;
  /** rank of Mamba's steps, default dim / 16, rounded up */
  readonly stepRank?: number;
  readonly convolutionBias?: boolean;
  /** norms of Mamba's steps and matrices, default true */
  readonly selectionNorm?: boolean;
  /** null: no positions; default base 10000 */
  readonly rotary?: {
    readonly base: number;
    /** NTK-aware positions for `length` tokens, grown from `originalLength` */
    readonly scaling?: { readonly originalLength: number; readonly length: number };
  } | null;
  /** default 1e-6 */
  readonly epsilon?: number;
  /** default true */
  readonly tied?: boolean;
}

/**
 * Attention heads and Mamba heads side by side in every layer, over windows but for three layers, with learned meta tokens in front of the
 * text and keys and values shared between neighbours.
 *
 * The paper's fusion is `W (beta_1 norm(attention) + beta_2 norm(mamba))` with learned beta per channel; in the released code, as here, beta is
 * the weight of each branch's norm, and a fixed half goes with it (the mean of the two).
 */
export const hymba: Architecture<HymbaShape> = {
  id: 'hymba',
  title: 'Hymba',
  paper: 'Hymba: A Hybrid-head Architecture for Small Language Models, arXiv 2411.13676',
  config: (shape) => {
    const { dim, depth, heads, kvHeads, globalLayers, innerDim = 2 * dim, headDim = dim / heads, epsilon = 1e-6 } = shape;
    const rotary = shape.rotary === undefined ? { base: 10000 } : shape.rotary;
    const scaling = rotary?.scaling && { type: 'dynamic-ntk', factor: 2, ...rotary.scaling };
    const attention = {
      heads,
      kvHeads,
      headDim,
      valueHeadDim: innerDim / heads,
      rotary: rotary && { base: rotary.base, ...(scaling ? { scaling } : {}) },
      projectOutput: false,
    };
    const mamba = {
      type: 'mamba-s6',
      innerDim,
      stateDim: shape.stateDim ?? 16,
      kernelSize: shape.kernelSize ?? 4,
      stepRank: shape.stepRank ?? Math.ceil(dim / 16),
      convolutionBias: shape.convolutionBias ?? true,
      selectionNorm: shape.selectionNorm ?? true,
      epsilon,
      projectOutput: false,
    };
    const beside = (mixer: { readonly type: string; readonly [key: string]: unknown }) => ({
      type: 'parallel',
      branches: [
        { mixer, norm: true },
        { mixer: mamba, norm: true },
      ],
      combine: 'mean',
      output: true,
    });
    return {
      vocabSize: shape.vocabSize,
      dim,
      depth,
      mixers: Array.from({ length: depth }, (_, layer) => (globalLayers.includes(layer) ? 'global' : 'windowed')),
      definitions: {
        global: beside({ type: 'mha-mqa-gqa', ...attention }),
        windowed: beside({ type: 'sliding-window-attention', window: shape.window, sinks: shape.metaTokens, ...attention }),
        mlp: { type: 'mlp', hidden: shape.hidden },
      },
      ...(shape.metaTokens > 0 ? { metaTokens: { count: shape.metaTokens, deviation: 1 } } : {}),
      share: { keyValue: shape.keyValueGroups.map((group) => [...group]) },
      norm: { epsilon },
      tieEmbeddings: shape.tied ?? true,
    };
  },
  sizes: {
    '1.5b': {
      shape: {
        vocabSize: 32001,
        dim: 1600,
        depth: 32,
        heads: 25,
        kvHeads: 5,
        hidden: 5504,
        metaTokens: 128,
        // 1024 tokens before the query, and the query
        window: 1025,
        globalLayers: [0, 15, 31],
        keyValueGroups: [
          ...[1, 3, 5, 7, 9, 11, 13].map((layer) => [layer, layer + 1]),
          [16, 17, 18],
          ...[19, 21, 23, 25, 27, 29].map((layer) => [layer, layer + 1]),
        ],
        rotary: { base: 10000, scaling: { originalLength: 2048, length: 8192 } },
      },
      parameters: 1_522_797_824,
    },
  },
};
