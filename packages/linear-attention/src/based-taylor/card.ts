import type { MechanismCard } from '@seqloom/core';

/** What is known about BASED's Taylor linear attention. */
export const card: MechanismCard = {
  id: 'based-taylor',
  title: 'BASED Taylor linear attention',
  paper: {
    title: 'Simple linear attention language models balance the recall-throughput tradeoff',
    authors: 'Arora, Eyuboglu, Zhang, Timalsina, Alberti, Zinsley, Zou, Rudra, Re',
    year: 2024,
    id: 'arXiv:2402.18668',
  },
  patterns: ['causal-self', 'noncausal-self', 'causal-cross', 'noncausal-cross'],
  forms: ['naive', 'parallel', 'chunk', 'recurrent'],
  kernels: ['LinearAttention'],
  decode: 'constant-state',
  // featureDim is that of queries and keys before the expansion; position is one more number
  stateBytes: (_length, { heads = 1, featureDim = 16, valueDim = 64, symmetric = 1, normalised = 1 }) => {
    const features = 1 + featureDim + (symmetric ? (featureDim * (featureDim + 1)) / 2 : featureDim * featureDim);
    return 4 * (heads * features * (valueDim + normalised) + 1);
  },
  complexity: { train: 'O(T C (F + V) + T F V)', decode: 'O(F V)' },
  reference: {
    repository: 'HazyResearch/based',
    path: 'based/models/mixers/linear_attention.py; fla-org/flash-linear-attention fla/ops/based/naive.py',
    licence: 'Apache-2.0',
  },
  deviations: [
    'Each product of two channels is kept once by default (F = 153 for 16 channels instead of 273): the same kernel from a smaller state.',
    'One epsilon of 1e-6 in all forms; the reference has 1e-12 in training and 1e-6 in decoding.',
    'The scale 1 / sqrt(d) is inside the feature map in every form; a kernel path of flash-linear-attention leaves it out.',
    'The chunk form expands the features and runs the LinearAttention kernel; the reference keeps three moments apart.',
  ],
  degenerate: [
    'The features of 273 and of 153 entries give the kernel 1 + u + u^2 / 2.',
    'With values of ones the output is one.',
    'A query of zeros gives the mean of the values so far.',
    'For small queries and keys it is close to softmax attention.',
  ],
  evidence: 'golden-original',
  since: '0.1.0',
};
