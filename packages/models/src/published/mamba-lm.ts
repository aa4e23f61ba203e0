import type { Architecture } from './architecture.ts';

/** Numbers that differ between Mamba language models. */
export interface MambaLmShape {
  readonly layer: 'mamba' | 'mamba2';
  /** padded to a multiple of 8, and of 16 for the releases of Mamba-2 */
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  /** default 16, and 128 for Mamba-2 */
  readonly stateDim?: number;
  /** channels of a head of Mamba-2, default 64 */
  readonly headDim?: number;
}

const mamba = (dim: number, depth: number): MambaLmShape => ({ layer: 'mamba', vocabSize: 50280, dim, depth });
const mamba2 = (dim: number, depth: number): MambaLmShape => ({ layer: 'mamba2', vocabSize: 50288, dim, depth });

/** Mamba and Mamba-2 alone: one state space per layer, no attention, no positions, no feed-forward layers. */
export const mambaLm: Architecture<MambaLmShape> = {
  id: 'mamba-lm',
  title: 'Mamba and Mamba-2 language models',
  paper:
    'Mamba: Linear-Time Sequence Modeling with Selective State Spaces, arXiv 2312.00752; Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality, arXiv 2405.21060',
  config: ({ layer, vocabSize, dim, depth, stateDim, headDim }) => {
    // uniform within 1 / sqrt(2 dim), less with depth
    const outputDeviation = 1 / Math.sqrt(3 * 2 * dim * depth);
    return {
      vocabSize,
      dim,
      depth,
      mixers: layer,
      channels: 'none',
      definitions: {
        [layer]:
          layer === 'mamba'
            ? { type: 'mamba-s6', stateDim: stateDim ?? 16, outputDeviation }
            : { type: 'mamba2-ssd', stateDim: stateDim ?? 128, headDim: headDim ?? 64, outputDeviation },
      },
      norm: { epsilon: 1e-5 },
    };
  },
  sizes: {
    'mamba-130m': { shape: mamba(768, 24), parameters: 129_135_360 },
    'mamba-370m': { shape: mamba(1024, 48), parameters: 371_516_416 },
    'mamba-790m': { shape: mamba(1536, 48), parameters: 793_204_224 },
    'mamba-1.4b': { shape: mamba(2048, 48), parameters: 1_372_178_432 },
    'mamba-2.8b': { shape: mamba(2560, 64), parameters: 2_768_345_600 },
    'mamba2-130m': { shape: mamba2(768, 24), parameters: 128_989_632 },
    'mamba2-370m': { shape: mamba2(1024, 48), parameters: 368_346_624 },
    'mamba2-780m': { shape: mamba2(1536, 48), parameters: 780_161_280 },
    'mamba2-1.3b': { shape: mamba2(2048, 48), parameters: 1_343_757_312 },
    'mamba2-2.7b': { shape: mamba2(2560, 64), parameters: 2_702_599_680 },
  },
};
