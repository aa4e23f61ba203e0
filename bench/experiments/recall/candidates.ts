import type { SequenceMixer } from '@seqloom/core';
import { DeltaNet, GatedLinearAttention, KimiDeltaAttention, LinearAttention } from '@seqloom/linear-attention';
import { defaultComponents } from '@seqloom/models';
import type { ComponentConfig, Components } from '@seqloom/models';

/** A mixer that takes part: how it is built for a width, and what it is called. */
export interface Candidate {
  readonly name: string;
  readonly label: string;
  /** the second layer of the model, `dim` and `seed` left out */
  readonly definition: Readonly<Record<string, unknown>> & { readonly type: string };
  /** recurrent mixers have a state of one size, attention one that grows */
  readonly recurrent: boolean;
}

/** Channels of a key and of a value: the state of every recurrent mixer is one matrix of this height and width. */
export const STATE = { headDim: 8, valueDim: 16 };

const one = { heads: 1, ...STATE };

/** The mixers; short convolutions of their own are off, as every model has the same one in its first layer. */
export const candidates: readonly Candidate[] = [
  // without the normaliser, whose column would make the state larger than the others'; the layer then has an RMS norm, as they have
  {
    name: 'linear-attention',
    label: 'linear attention (elu + 1)',
    definition: { type: 'linear-attention', ...one, normalise: false },
    recurrent: true,
  },
  {
    name: 'linear-attention-identity',
    label: 'linear attention (no feature map)',
    definition: { type: 'linear-attention', ...one, featureMap: { name: 'identity' } },
    recurrent: true,
  },
  {
    name: 'gated-linear-attention',
    label: 'gated linear attention',
    definition: { type: 'gated-linear-attention', ...one, shortConvolution: false },
    recurrent: true,
  },
  { name: 'delta-net', label: 'DeltaNet', definition: { type: 'delta-net', ...one, kernelSize: 0 }, recurrent: true },
  // in so few steps decays without a bound silence channels of the key before there is anything to recall, and stay there
  {
    name: 'kimi-delta-attention',
    label: 'KDA, log decays above -0.1',
    definition: { type: 'kimi-delta-attention', ...one, kernelSize: 0, lowestLogDecay: -0.1 },
    recurrent: true,
  },
  { name: 'softmax-attention', label: 'softmax attention', definition: { type: 'mha-mqa-gqa', heads: 1, headDim: 16 }, recurrent: false },
];

type Build = (config: ComponentConfig) => SequenceMixer;
const made = <Config>(Layer: new (config: Config) => SequenceMixer): Build => {
  return (config) => new Layer(config as Config);
};

/** What the models of the experiment are built from. */
export const components: Components = {
  ...defaultComponents,
  mixers: {
    ...defaultComponents.mixers,
    'linear-attention': made(LinearAttention),
    'gated-linear-attention': made(GatedLinearAttention),
    'delta-net': made(DeltaNet),
    'kimi-delta-attention': made(KimiDeltaAttention),
  },
};
