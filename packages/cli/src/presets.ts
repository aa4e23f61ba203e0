import type { HybridConfig } from '@seqloom/models';

/** Model configs that the CLI knows by name. */
export const presets = {
  /** The default hybrid: short convolutions, Taylor linear attention and a sliding window, over bytes. */
  quickstart: {
    vocabSize: 256,
    dim: 128,
    mixers: 'conv,linear,window,conv',
    definitions: {
      conv: { type: 'gated-convolution', kernelSize: 4 },
      linear: { type: 'based-taylor', heads: 4, featureDim: 8 },
      window: { type: 'sliding-window-attention', heads: 4, window: 64 },
      mlp: { type: 'mlp', hidden: 256 },
    },
    initialDeviation: 0.02,
    seed: 0,
  },
} satisfies Readonly<Record<string, HybridConfig>>;

export type PresetName = keyof typeof presets;
