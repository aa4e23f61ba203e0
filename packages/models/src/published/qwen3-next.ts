import type { Architecture } from './architecture.ts';

/** Numbers that differ between models of the Qwen3-Next form. */
export interface Qwen3NextShape {
  readonly vocabSize: number;
  readonly dim: number;
  readonly depth: number;
  /** layers from one with softmax attention to the next, the last of each being it; default 4 */
  readonly fullEvery?: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** channels of a head that are rotated, default a quarter */
  readonly rotaryDim?: number;
  /** default 1e7 */
  readonly rotaryBase?: number;
  /** heads of the delta rule */
  readonly linearHeads: number;
  readonly linearHeadDim: number;
  readonly linearValueHeads: number;
  readonly linearValueDim: number;
  readonly experts: number;
  readonly topK: number;
  readonly expertHidden: number;
  readonly sharedHidden: number;
  /** default 1e-6 */
  readonly epsilon?: number;
  /** default false */
  readonly tied?: boolean;
}

/** Qwen3-Next: three layers of gated delta rule to one of gated softmax attention, with a mixture of experts in each. */
export const qwen3Next: Architecture<Qwen3NextShape> = {
  id: 'qwen3-next',
  title: 'Qwen3-Next',
  paper: 'Qwen3-Next-80B-A3B, a release without a paper (Qwen team, 2025)',
  config: (shape) => {
    const epsilon = shape.epsilon ?? 1e-6;
    const every = shape.fullEvery ?? 4;
    return {
      vocabSize: shape.vocabSize,
      dim: shape.dim,
      depth: shape.depth,
      mixers: { every, offset: every - 1, then: 'attention', else: 'delta' },
      channels: 'experts',
      definitions: {
        delta: {
          type: 'gated-delta-net',
          heads: shape.linearHeads,
          headDim: shape.linearHeadDim,
          valueHeads: shape.linearValueHeads,
          valueDim: shape.linearValueDim,
          epsilon,
        },
        attention: {
          type: 'mha-mqa-gqa',
          heads: shape.heads,
          kvHeads: shape.kvHeads,
          headDim: shape.headDim,
          rotary: { dims: shape.rotaryDim ?? shape.headDim / 4, base: shape.rotaryBase ?? 1e7 },
          qkNorm: 'zero-centered',
          normEpsilon: epsilon,
          outputGate: true,
        },
        experts: {
          type: 'moe-channel-mixers',
          experts: shape.experts,
          topK: shape.topK,
          hidden: shape.expertHidden,
          shared: { hidden: shape.sharedHidden, gate: true },
          auxiliary: { loadBalance: 0.001 },
        },
      },
      norm: { zeroCentered: true, epsilon },
      tieEmbeddings: shape.tied ?? false,
    };
  },
  sizes: {
    '80b-a3b': {
      shape: {
        vocabSize: 151936,
        dim: 2048,
        depth: 48,
        heads: 16,
        kvHeads: 2,
        headDim: 256,
        linearHeads: 16,
        linearHeadDim: 128,
        linearValueHeads: 32,
        linearValueDim: 128,
        experts: 512,
        topK: 10,
        expertHidden: 512,
        sharedHidden: 512,
      },
      // without the layers of multi-token prediction
      parameters: 79_674_391_296,
    },
  },
};
