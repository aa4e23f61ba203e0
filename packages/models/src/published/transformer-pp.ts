import type { Architecture } from './architecture.ts';

/** Numbers that differ between transformers of the Llama form. */
export interface TransformerPpShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  /** default: heads */
  readonly kvHeads?: number;
  /** default: dim / heads */
  readonly headDim?: number;
  /** inner width of the feed-forward layers */
  readonly hidden: number;
  /** default 10000 */
  readonly rotaryBase?: number;
  /** stretched positions of Llama 3.1 and later */
  readonly rotaryScaling?: { readonly factor: number; readonly originalLength: number };
  /** tokens that a query sees, itself included; default all */
  readonly window?: number;
  /** default 1e-6 */
  readonly epsilon?: number;
  /** default false */
  readonly tied?: boolean;
  /** biases on queries, keys and values, as in Qwen2; default false */
  readonly bias?: boolean;
  /** norm of each query and key head, as in Qwen3; default false */
  readonly qkNorm?: boolean;
}

/** The Llama form: root-mean-square norms first, rotary softmax attention, SwiGLU, no biases. */
export const transformerPp: Architecture<TransformerPpShape> = {
  id: 'transformer-pp',
  title: 'Transformer++',
  paper: 'LLaMA: Open and Efficient Foundation Language Models, arXiv 2302.13971',
  config: (shape) => ({
    vocabSize: shape.vocabSize,
    dim: shape.dim,
    depth: shape.depth,
    mixers: 'attention',
    definitions: {
      attention: {
        type: shape.window === undefined ? 'mha-mqa-gqa' : 'sliding-window-attention',
        heads: shape.heads,
        kvHeads: shape.kvHeads ?? shape.heads,
        headDim: shape.headDim ?? shape.dim / shape.heads,
        rotary: {
          base: shape.rotaryBase ?? 10000,
          ...(shape.rotaryScaling ? { scaling: { type: 'llama3', ...shape.rotaryScaling } } : {}),
        },
        bias: shape.bias ?? false,
        ...(shape.qkNorm ? { qkNorm: true, normEpsilon: shape.epsilon ?? 1e-6 } : {}),
        ...(shape.window === undefined ? {} : { window: shape.window }),
      },
      mlp: { type: 'mlp', hidden: shape.hidden },
    },
    norm: { epsilon: shape.epsilon ?? 1e-6 },
    tieEmbeddings: shape.tied ?? false,
  }),
  sizes: {
    '340m': { shape: { vocabSize: 32000, dim: 1024, depth: 24, heads: 16, hidden: 2816 }, parameters: 373_867_520 },
    '1.3b': { shape: { vocabSize: 32000, dim: 2048, depth: 24, heads: 32, hidden: 5632 }, parameters: 1_364_297_728 },
    'llama-2-7b': {
      shape: { vocabSize: 32000, dim: 4096, depth: 32, heads: 32, hidden: 11008, epsilon: 1e-5 },
      parameters: 6_738_415_616,
    },
    'llama-3.2-1b': {
      shape: {
        vocabSize: 128256,
        dim: 2048,
        depth: 16,
        heads: 32,
        kvHeads: 8,
        hidden: 8192,
        rotaryBase: 5e5,
        rotaryScaling: { factor: 32, originalLength: 8192 },
        epsilon: 1e-5,
        tied: true,
      },
      parameters: 1_235_814_400,
    },
  },
};
