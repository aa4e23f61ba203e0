import type { MechanismCard } from '@seqloom/core';

/** What is known about the short causal convolution. */
export const card: MechanismCard = {
  id: 'short-causal-conv1d',
  title: 'Short causal depthwise convolution',
  paper: {
    title: 'Hyena Hierarchy: Towards Larger Convolutional Language Models',
    authors: 'Poli, Massaroli, Nguyen, Fu, Dao, Baccus, Bengio, Ermon, Re',
    year: 2023,
    id: 'arXiv:2302.10866',
  },
  patterns: ['causal-self'],
  forms: ['naive', 'parallel', 'recurrent'],
  kernels: ['CausalConv1d'],
  decode: 'constant-state',
  // the window, and the position
  stateBytes: (_length, { dim = 64, kernelSize = 4 }) => 4 * ((kernelSize - 1) * dim + 1),
  complexity: { train: 'O(T D K)', decode: 'O(D K)' },
  reference: {
    repository: 'Dao-AILab/causal-conv1d',
    path: 'causal_conv1d/causal_conv1d_interface.py',
    licence: 'BSD-3-Clause',
  },
  deviations: [
    'Channels come last, and the window holds the K - 1 inputs before the current one; caches of the original may be K wide.',
    'Biases are zero at the start; the original draws them evenly within 1 / sqrt(K).',
  ],
  degenerate: [
    'With one tap it is a scale and a bias per channel.',
    'With a last tap of one and zeros elsewhere the output is the input.',
    'With a first tap of one and zeros elsewhere the output is the input K - 1 tokens before.',
  ],
  evidence: 'golden-original',
  since: '0.2.0',
};
