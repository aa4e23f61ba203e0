import type { Architecture } from './architecture.ts';

/** Fixed factors on activations, each 1 by default. */
export interface FalconH1Multipliers {
  readonly embedding?: number;
  readonly logits?: number;
  readonly attentionInput?: number;
  readonly attentionOutput?: number;
  /** on keys, before their rotation */
  readonly key?: number;
  readonly mambaInput?: number;
  readonly mambaOutput?: number;
  /** on the parts of Mamba's projection: gate, values, input matrix, output matrix, steps */
  readonly mambaParts?: readonly [number, number, number, number, number];
  /** on the gate of the feed-forward layers before its activation */
  readonly mlpGate?: number;
  readonly mlpOutput?: number;
}

/** Numbers that differ between Falcon-H1 models. */
export interface FalconH1Shape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** channels of the state space */
  readonly innerDim: number;
  /** channels of a head of the state space */
  readonly mambaHeadDim: number;
  readonly stateDim: number;
  /** default 1 */
  readonly groups?: number;
  /** default 4 */
  readonly kernelSize?: number;
  /** inner width of the feed-forward layers */
  readonly hidden: number;
  /** the state space's output has a norm, before or after its gate; default none: the gate alone */
  readonly mambaNorm?: 'before-gate' | 'after-gate' | null;
  /** learned vectors by part, default none but the convolution's */
  readonly bias?: { readonly attention?: boolean; readonly mamba?: boolean; readonly mlp?: boolean; readonly convolution?: boolean };
  /** limits of the state space's steps, default none */
  readonly steps?: { readonly leastStep?: number; readonly mostStep?: number };
  /** default 1e11 */
  readonly rotary?: { readonly base: number };
  readonly multipliers?: FalconH1Multipliers;
  /** default 1e-5 */
  readonly epsilon?: number;
  /** default false */
  readonly tied?: boolean;
}

/** Attention and Mamba-2 side by side in every layer, both added to the residual stream, and fixed factors on all activations. */
export const falconH1: Architecture<FalconH1Shape> = {
  id: 'falcon-h1',
  title: 'Falcon-H1',
  paper: 'Falcon-H1: A Family of Hybrid-Head Language Models Redefining Efficiency and Performance, arXiv 2507.22448',
  config: (shape) => {
    const { headDim, multipliers = {}, bias = {}, mambaNorm = null, epsilon = 1e-5 } = shape;
    return {
      vocabSize: shape.vocabSize,
      dim: shape.dim,
      depth: shape.depth,
      mixers: 'both',
      definitions: {
        both: {
          type: 'parallel',
          branches: [
            {
              mixer: {
                type: 'mha-mqa-gqa',
                heads: shape.heads,
                kvHeads: shape.kvHeads,
                headDim,
                rotary: shape.rotary ?? { base: 1e11 },
                bias: bias.attention ?? false,
                outputBias: bias.attention ?? false,
                // rotation is linear, so a factor on the keys is one on the scores
                scale: headDim ** -0.5 * (multipliers.key ?? 1),
              },
              inputScale: multipliers.attentionInput ?? 1,
              outputScale: multipliers.attentionOutput ?? 1,
            },
            {
              mixer: {
                type: 'mamba2-ssd',
                innerDim: shape.innerDim,
                headDim: shape.mambaHeadDim,
                stateDim: shape.stateDim,
                groups: shape.groups ?? 1,
                kernelSize: shape.kernelSize ?? 4,
                bias: bias.mamba ?? false,
                convolutionBias: bias.convolution ?? true,
                outputNorm: mambaNorm !== null,
                normBeforeGate: mambaNorm === 'before-gate',
                inputScales: [...(multipliers.mambaParts ?? [1, 1, 1, 1, 1])],
                epsilon,
                ...shape.steps,
              },
              inputScale: multipliers.mambaInput ?? 1,
              outputScale: multipliers.mambaOutput ?? 1,
            },
          ],
          combine: 'sum',
        },
        mlp: { type: 'mlp', hidden: shape.hidden, bias: bias.mlp ?? false, gateScale: multipliers.mlpGate ?? 1 },
      },
      residual: { channelScale: multipliers.mlpOutput ?? 1 },
      norm: { epsilon },
      tieEmbeddings: shape.tied ?? false,
      embeddingScale: multipliers.embedding ?? 1,
      logitScale: multipliers.logits ?? 1,
    };
  },
  sizes: {
    // its factors are in its checkpoint's config.json alone; here they are 1
    'tiny-90m': {
      shape: {
        vocabSize: 32768,
        dim: 512,
        depth: 24,
        heads: 8,
        kvHeads: 2,
        headDim: 64,
        innerDim: 768,
        mambaHeadDim: 32,
        stateDim: 64,
        hidden: 768,
        tied: true,
      },
      parameters: 91_131_072,
    },
    '0.5b': {
      shape: {
        vocabSize: 32784,
        dim: 1024,
        depth: 36,
        heads: 8,
        kvHeads: 2,
        headDim: 64,
        innerDim: 1536,
        mambaHeadDim: 64,
        stateDim: 128,
        hidden: 2048,
        multipliers: {
          embedding: 5.656854249492381,
          logits: 0.0390625,
          attentionOutput: 0.9375,
          key: 0.39062499999999994,
          mambaInput: 1.25,
          mambaOutput: 0.23570226039551587,
          mambaParts: [0.3535533905932738, 0.25, 0.3535533905932738, 0.5, 0.3535533905932738],
          mlpGate: 0.8838834764831844,
          mlpOutput: 0.5859375,
        },
      },
      parameters: 521_411_104,
    },
    '7b': {
      shape: {
        vocabSize: 130048,
        dim: 3072,
        depth: 44,
        heads: 12,
        kvHeads: 2,
        headDim: 128,
        innerDim: 3072,
        mambaHeadDim: 128,
        stateDim: 256,
        hidden: 12288,
        multipliers: {
          embedding: 5.656854249492381,
          logits: 0.013020833333333334,
          attentionOutput: 0.10416666666666667,
          key: 0.030690398488999456,
          mambaInput: 0.4166666666666667,
          mambaOutput: 0.11785113019775793,
          mambaParts: [0.3535533905932738, 0.25, 0.1767766952966369, 0.5, 0.3535533905932738],
          mlpGate: 0.2946278254943948,
          mlpOutput: 0.032552083333333336,
        },
      },
      parameters: 7_585_513_568,
    },
  },
};
