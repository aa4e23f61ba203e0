import type { Architecture } from './architecture.ts';

/** Numbers that differ between sizes of BASED. */
export interface BasedShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly heads: number;
  /** pattern of `conv`, `linear` and `window` */
  readonly mixers: string;
  /** number of layers that the pattern yields */
  readonly depth: number;
  /** channels of a query or key head of the linear attention, default 16 */
  readonly featureDim?: number;
  /** tokens that a sliding-window layer sees, itself included; default 129 */
  readonly window?: number;
}

/** BASED: mostly gated short convolutions, some linear attention with Taylor features, some attention over a narrow window; no positions. */
export const based: Architecture<BasedShape> = {
  id: 'based',
  title: 'BASED',
  paper: 'Simple linear attention language models balance the recall-throughput tradeoff, arXiv 2402.18668',
  config: ({ vocabSize, dim, heads, mixers, depth, featureDim, window }) => {
    const outputDeviation = 0.02 / Math.sqrt(2 * depth);
    return {
      vocabSize,
      dim,
      depth,
      mixers,
      definitions: {
        conv: { type: 'gated-convolution', kernelSize: 3, expand: 2, outputDeviation },
        linear: { type: 'based-taylor', heads, featureDim: featureDim ?? 16, outputDeviation },
        // the released code halves its window of 256 and adds the token itself
        window: { type: 'sliding-window-attention', heads, window: window ?? 129, outputDeviation },
        mlp: { type: 'mlp', hidden: 2 * dim, outputDeviation },
      },
      norm: { epsilon: 1e-5 },
    };
  },
  sizes: {
    '360m': {
      shape: { vocabSize: 50264, dim: 1024, heads: 16, depth: 27, mixers: '(conv, linear, window, conv*2)*5, conv*2' },
      parameters: 362_620_928,
    },
    '1.3b': {
      shape: {
        vocabSize: 50264,
        dim: 1792,
        heads: 16,
        depth: 36,
        mixers: '(conv, linear, window, conv*2)*5, conv*2, linear, window, conv*4, linear, window, conv',
      },
      parameters: 1_349_453_056,
    },
  },
};
