import type { MechanismCard } from '@seqloom/core';

/** What is known about prefix linear attention (JRT-RNN). */
export const card: MechanismCard = {
  id: 'jrt-prefix-linear-attention',
  title: 'JRT prefix linear attention',
  paper: {
    title: 'Just read twice: closing the recall gap for recurrent language models',
    authors: 'Arora, Timalsina, Singhal, Spector, Eyuboglu, Zhao, Rao, Rudra, Re',
    year: 2024,
    id: 'arXiv:2407.05483',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['LinearAttention'],
  decode: 'constant-state',
  // featureDim is that of queries and keys before the expansion; position is one more number
  stateBytes: (_length, { heads = 1, featureDim = 16, valueDim = 64, symmetric = 1 }) => {
    const features = 1 + featureDim + (symmetric ? (featureDim * (featureDim + 1)) / 2 : featureDim * featureDim);
    return 4 * (heads * features * (valueDim + 1) + 1);
  },
  complexity: { train: 'O(T C (F + V) + T F V + M F V)', decode: 'O(F V)' },
  reference: {
    repository: 'HazyResearch/prefix-linear-attention',
    path: 'based/models/mixers/prefix_linear_attention.py',
    licence: 'not stated',
  },
  deviations: [
    'The pattern is causal from the end of the prefix on; inside the prefix, which is read in one piece, tokens see each other both ways.',
    'The prefix of a row is what the layer is given first, at most prefixLength tokens, so shorter prompts need no padding on the left.',
    'Where a call starts from a state no prefix is read, so the projections of the prefix have no gradient there.',
    'Padding is left out after the feature map, so that it changes nothing; maskKeys before gives the reference, whose padded keys still count as phi(0).',
    'Each product of two channels is kept once by default (F = 153 for 16 channels instead of 273): the same kernel from a smaller state.',
    'One epsilon of 1e-6 in all forms, as in based-taylor; the reference has 1e-12, and the denominator is at least 1/2 per key.',
  ],
  degenerate: [
    'Without a prefix it is BASED Taylor linear attention.',
    'With one pair of projections for both, tokens of the prefix count twice once they are past.',
    'The order of the prefix does not matter to its sums.',
    'With values of ones the output is one.',
  ],
  evidence: 'properties-only',
  since: '0.2.0',
};
