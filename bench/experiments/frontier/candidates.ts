import { mqar } from '@seqloom/train';
import type { Candidate } from '../comparison/train-model.ts';

/** Sequences of one length; a model learns all the numbers of pairs. */
export const TASK = { vocabSize: 128, length: 64, pairs: [4, 8, 16] } as const;

/** A mixer at several sizes of its state. */
export interface Family {
  readonly name: string;
  readonly label: string;
  /** attention without a window keeps everything */
  readonly grows?: boolean;
  /** layers after the first, by the size that is varied */
  readonly layers: (size: number) => readonly (Readonly<Record<string, unknown>> & { readonly type: string })[];
  /** what is varied */
  readonly axis: string;
  readonly sizes: readonly number[];
}

// one head whose values have 16 channels, wherever a mixer has heads; short convolutions of their own are off, as every model has one
const value = { heads: 1, valueDim: 16 };
const window = (width: number) => ({ type: 'sliding-window-attention', heads: 1, headDim: 16, window: width });

/** The mixers of the frontier. */
export const families: readonly Family[] = [
  {
    name: 'attention',
    label: 'softmax attention',
    grows: true,
    axis: 'head dim',
    sizes: [4, 8, 16],
    layers: (headDim) => [{ type: 'mha-mqa-gqa', heads: 1, headDim }],
  },
  { name: 'window', label: 'sliding window', axis: 'window', sizes: [8, 16, 32, 48], layers: (width) => [window(width)] },
  {
    name: 'linear',
    label: 'linear attention (elu + 1)',
    axis: 'head dim',
    sizes: [4, 16, 64],
    layers: (headDim) => [{ type: 'linear-attention', ...value, headDim, normalise: false }],
  },
  {
    name: 'taylor',
    label: 'BASED (Taylor features)',
    axis: 'feature dim',
    sizes: [2, 4, 8, 16],
    layers: (featureDim) => [{ type: 'based-taylor', ...value, featureDim }],
  },
  {
    name: 'hybrid',
    label: 'BASED and a window of 8',
    axis: 'feature dim',
    sizes: [2, 4, 8],
    layers: (featureDim) => [{ type: 'based-taylor', ...value, featureDim }, window(8)],
  },
  {
    name: 'gla',
    label: 'gated linear attention',
    axis: 'head dim',
    sizes: [4, 16, 64],
    layers: (headDim) => [{ type: 'gated-linear-attention', ...value, headDim, shortConvolution: false }],
  },
  {
    name: 'kda',
    label: 'KDA, log decays above -0.1',
    axis: 'head dim',
    sizes: [4, 8, 16, 32],
    // in so few steps decays without a bound silence channels of the key before there is anything to recall, and stay there
    layers: (headDim) => [{ type: 'kimi-delta-attention', ...value, headDim, kernelSize: 0, lowestLogDecay: -0.1 }],
  },
  {
    name: 'slots',
    label: 'bounded memory control (slots)',
    axis: 'slots',
    sizes: [4, 16, 64],
    layers: (slots) => [{ type: 'bounded-memory-control', ...value, headDim: 16, slots }],
  },
  {
    name: 'gsa',
    label: 'gated slot attention',
    axis: 'slots',
    sizes: [4, 16, 64],
    // gates that forget little and sharp scores: with the defaults it finds no way to recall in so few steps
    layers: (slots) => [{ type: 'gated-slot-attention', ...value, headDim: 16, slots, gateNormaliser: 32, scale: 16 }],
  },
  {
    name: 'mamba2',
    label: 'Mamba-2',
    axis: 'state dim',
    sizes: [4, 8, 16],
    // decays differ between heads from the start, so that one head alone would be a matter of luck
    layers: (stateDim) => [{ type: 'mamba2-ssd', innerDim: 64, headDim: 16, stateDim }],
  },
];

const tasks = TASK.pairs.map((pairs) => mqar({ vocabSize: TASK.vocabSize, length: TASK.length, pairs }));

/** Every family at every size; the name is `<family>-<size>`. */
export const candidates: readonly Candidate[] = families.flatMap(({ name, label, axis, sizes, layers }) =>
  sizes.map((size): Candidate => {
    const parts = layers(size);
    const names = parts.map((_, index) => `mixer${index + 1}`);
    return {
      name: `${name}-${size}`,
      label: `${label}, ${axis} ${size}`,
      model: {
        mixers: ['shift', ...names].join(', '),
        channels: 'none',
        definitions: {
          shift: { type: 'gated-convolution', kernelSize: 3, expand: 1 },
          ...Object.fromEntries(names.map((each, index) => [each, parts[index]!])),
        },
        // small logits leave the head no noise of the large embeddings to unlearn
        logitScale: 0.25,
      },
      tasks,
    };
  }),
);
