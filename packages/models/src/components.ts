import { MultiHeadAttention, SlidingWindowAttention } from '@seqloom/attention';
import { GatedConvolution, Mlp } from '@seqloom/core';
import type { ChannelMixer, GatedConvolutionConfig, MlpConfig, SequenceMixer } from '@seqloom/core';
import { BasedTaylor, LinearAttention } from '@seqloom/linear-attention';

/** A component's config as it stands in a definition, with `dim` and `seed` filled in and `type` left out. */
export type ComponentConfig = Readonly<Record<string, unknown>> & { readonly dim: number; readonly seed: number };

/** The parts that a hybrid may be made of, by the `type` of a definition. */
export interface Components {
  readonly mixers: Readonly<Record<string, (config: ComponentConfig) => SequenceMixer>>;
  readonly channels: Readonly<Record<string, (config: ComponentConfig) => ChannelMixer>>;
}

/** Every component that the families of this release have; pass your own record to bundle only what you use. */
export const defaultComponents: Components = {
  mixers: {
    'mha-mqa-gqa': (config) => new MultiHeadAttention(config as unknown as ConstructorParameters<typeof MultiHeadAttention>[0]),
    'sliding-window-attention': (config) =>
      new SlidingWindowAttention(config as unknown as ConstructorParameters<typeof SlidingWindowAttention>[0]),
    'linear-attention': (config) => new LinearAttention(config as unknown as ConstructorParameters<typeof LinearAttention>[0]),
    'based-taylor': (config) => new BasedTaylor(config as unknown as ConstructorParameters<typeof BasedTaylor>[0]),
    'gated-convolution': (config) => new GatedConvolution(config as GatedConvolutionConfig),
  },
  channels: {
    mlp: (config) => new Mlp(config as MlpConfig),
  },
};
