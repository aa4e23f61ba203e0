import type { Architecture } from './architecture.ts';

/** Numbers that differ between RAT models. */
export interface RatShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  /** distinct query and key heads, default 2 */
  readonly groups?: number;
  /** tokens per chunk, default 16 */
  readonly chunkSize?: number;
  /** tokens that each second layer, of local attention, sees, itself included; absent: RAT in all layers */
  readonly window?: number;
}

const shape: RatShape = { vocabSize: 32000, dim: 2048, depth: 24, heads: 16 };

/** RAT: a gated recurrence within chunks and attention over them, with or without local attention in each second layer. */
export const rat: Architecture<RatShape> = {
  id: 'rat',
  title: 'RAT and RAT-SWA',
  paper: 'RAT: Bridging RNN Efficiency and Attention Accuracy via Chunk-based Sequence Modeling, arXiv 2507.04416',
  config: ({ vocabSize, dim, depth, heads, groups, chunkSize, window }) => ({
    vocabSize,
    dim,
    depth,
    mixers: window === undefined ? 'rat' : 'rat, local',
    definitions: {
      rat: { type: 'rat', heads, groups: groups ?? 2, chunkSize: chunkSize ?? 16 },
      ...(window === undefined ? {} : { local: { type: 'sliding-window-attention', heads, window } }),
      mlp: { type: 'mlp', gated: false, activation: 'gelu', hidden: 4 * dim },
    },
    norm: { epsilon: 1e-6 },
    tieEmbeddings: false,
  }),
  sizes: {
    '1.3b': { shape, parameters: 1_364_346_880 },
    // a distance of at most 1024
    'swa-1.3b': { shape: { ...shape, window: 1025 }, parameters: 1_351_739_392 },
  },
};
