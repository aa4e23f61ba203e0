import type { MechanismCard } from '@seqloom/core';

/** What is known about linear attention. */
export const card: MechanismCard = {
  id: 'linear-attention',
  title: 'Linear attention',
  paper: {
    title: 'Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention',
    authors: 'Katharopoulos, Vyas, Pappas, Fleuret',
    year: 2020,
    id: 'arXiv:2006.16236',
  },
  patterns: ['causal-self', 'noncausal-self', 'causal-cross', 'noncausal-cross'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['LinearAttention'],
  decode: 'constant-state',
  // normalised is 1 where the normaliser is carried, 0 where not; position is one more number
  stateBytes: (_length, { heads = 1, featureDim = 1, valueDim = 1, normalised = 1 }) =>
    4 * (heads * featureDim * (valueDim + normalised) + 1),
  complexity: { train: 'O(T C (F + V) + T F V)', decode: 'O(F V)' },
  reference: {
    repository: 'fla-org/flash-linear-attention',
    path: 'fla/ops/linear_attn/naive.py, fla/layers/linear_attn.py, fla/modules/feature_map.py',
    licence: 'MIT',
  },
  deviations: [
    'dpfp builds [relu(x), relu(-x)] as its paper does; flash-linear-attention builds [relu(x), -relu(x)].',
    'The scale defaults to 1 where outputs are normalised, as in the paper, and to F^-0.5 where not, as in flash-linear-attention.',
    'hedgehog has the sharpness c = 1 of its paper; flash-linear-attention uses 2, which the option c gives.',
    'Signed feature maps refuse to be normalised, since their denominator crosses zero; flash-linear-attention lets them.',
    'A causal-cross layer shows token i of a row the first i + 1 tokens of the context, in the parallel form.',
  ],
  degenerate: [
    'With values of ones a normalised output is one.',
    'hedgehog at its start is the softmax of [x, -x].',
    'The efficient map gives every key feature weights that sum to one over the sequence.',
    'A query of one token reads that token alone: normalised, its value.',
  ],
  evidence: 'golden-original',
  since: '0.1.0',
};
